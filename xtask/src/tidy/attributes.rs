//! Every exemption from a lint says why.

use syn::visit::{self, Visit};
use syn::{Attribute, Meta};

use super::{Finding, Source};

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut visitor = Exemptions { path: &source.path, findings: Vec::new() };
    visitor.visit_file(&source.syntax);
    visitor.findings
}

struct Exemptions<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Visit<'_> for Exemptions<'_> {
    fn visit_attribute(&mut self, attribute: &Attribute) {
        let tokens = match &attribute.meta {
            Meta::List(list) => list.tokens.to_string(),
            Meta::Path(_) | Meta::NameValue(_) => return visit::visit_attribute(self, attribute),
        };
        let path = attribute.path();
        let is_exemption = path.is_ident("allow")
            || path.is_ident("expect")
            || (path.is_ident("cfg_attr") && (tokens.contains("allow (") || tokens.contains("allow(")));
        if is_exemption && !tokens.contains("reason =") {
            let line = attribute.pound_token.span.start().line;
            self.findings.push(Finding::new(
                self.path,
                line,
                "an exemption from a lint needs `reason = \"...\"`",
            ));
        }
        visit::visit_attribute(self, attribute);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Source::parse("a.rs", text).unwrap()).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn an_exemption_without_a_reason_is_found_wherever_it_stands() {
        assert_eq!(lines("//! A.\n#![allow(unused)]\n"), [2]);
        assert_eq!(lines("//! A.\nfn a() {\n    #[allow(clippy::exit)]\n    b();\n}\n"), [3]);
        assert_eq!(lines("//! A.\n#[cfg_attr(test, allow(unused))]\nfn a() {}\n"), [2]);
        assert_eq!(lines("//! A.\n#[expect(unused)]\nfn a() {}\n"), [2]);
    }

    #[test]
    fn an_exemption_with_a_reason_is_fine() {
        assert!(lines("//! A.\n#[allow(unused, reason = \"because\")]\nfn a() {}\n").is_empty());
    }
}
