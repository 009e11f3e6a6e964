//! How long files and functions are.

use proc_macro2::Span;
use syn::visit::{self, Visit};
use syn::{Block, ImplItemFn, ItemFn, Signature, TraitItemFn};

use super::Source;

/// The longest file, its tests included.
pub(super) const FILE_MAX_LINES: usize = 400;
/// The longest function, from `fn` to its closing brace.
pub(super) const FUNCTION_MAX_LINES: usize = 70;

/// A file or a function in it, and its length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Length {
    pub(super) path: String,
    /// None for the file as a whole.
    pub(super) function: Option<String>,
    /// Where it begins, counted from 1.
    pub(super) line: usize,
    pub(super) lines: usize,
}

impl Length {
    pub(super) fn limit(&self) -> usize {
        if self.function.is_some() { FUNCTION_MAX_LINES } else { FILE_MAX_LINES }
    }
}

pub(super) fn measure(source: &Source) -> Vec<Length> {
    let file =
        Length { path: source.path.clone(), function: None, line: 1, lines: source.text.lines().count() };
    let mut visitor = Functions { path: &source.path, lengths: vec![file] };
    visitor.visit_file(&source.syntax);
    visitor.lengths
}

struct Functions<'a> {
    path: &'a str,
    lengths: Vec<Length>,
}

impl Functions<'_> {
    fn add(&mut self, signature: &Signature, block: &Block) {
        let line_of = |span: Span| span.start().line;
        let line = line_of(signature.fn_token.span);
        let lines = line_of(block.brace_token.span.close()) - line + 1;
        let function = Some(signature.ident.to_string());
        self.lengths.push(Length { path: self.path.to_owned(), function, line, lines });
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_wherever_they_stand() {
        let text = "//! A.\nfn a() {\n    b();\n}\nstruct S;\nimpl S {\n    /// Doc.\n    fn m(&self)\n    {\n    }\n}\n\
                    trait T {\n    fn t() {}\n    fn without();\n}\n";
        let lengths = measure(&Source::parse("a.rs", text).unwrap());
        let found: Vec<(Option<&str>, usize, usize)> =
            lengths.iter().map(|length| (length.function.as_deref(), length.line, length.lines)).collect();
        assert_eq!(found, [(None, 1, 15), (Some("a"), 2, 3), (Some("m"), 8, 3), (Some("t"), 13, 1)]);
    }
}
