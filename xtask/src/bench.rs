//! stub
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_: &Args) -> anyhow::Result<bool> {
    Ok(true)
}
pub(crate) fn test() -> anyhow::Result<crate::test::count::Tally> {
    todo!()
}
