//! The little XML that the query protocol needs: elements with children or text, no attributes read.

use std::fmt::Write;

/// An XML element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Name without prefix.
    pub(crate) name: String,
    /// Value of `xmlns`, written and not read.
    namespace: Option<String>,
    /// Text, when there are no children.
    pub(crate) text: String,
    /// Children in order.
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// Makes an empty element.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Sets the namespace.
    pub(crate) fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Adds a child with a text.
    pub(crate) fn with(mut self, name: &str, text: impl ToString) -> Self {
        let mut child = Self::new(name);
        child.text = text.to_string();
        self.children.push(child);
        self
    }

    /// Adds a child with a text when there is one.
    pub(crate) fn with_some(self, name: &str, text: Option<impl ToString>) -> Self {
        match text {
            Some(text) => self.with(name, text),
            None => self,
        }
    }

    /// Adds a child.
    pub(crate) fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    /// Adds a list: one element with an `item` per member, each filled by `fill`.
    pub(crate) fn list<T>(
        self,
        name: &str,
        members: impl IntoIterator<Item = T>,
        fill: impl Fn(Self, T) -> Self,
    ) -> Self {
        let mut list = Self::new(name);
        for member in members {
            list.children.push(fill(Self::new("item"), member));
        }
        self.child(list)
    }

    /// Returns the first child of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Returns the text of the first child of that name.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(|child| child.text.as_str())
    }

    /// Returns the items of a list below this element.
    pub(crate) fn items(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.get(name).into_iter().flat_map(|list| list.children.iter())
    }

    /// Writes a document with this element as its root.
    pub(crate) fn document(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(&self.name);
        if let Some(namespace) = &self.namespace {
            let _ = write!(out, " xmlns=\"{namespace}\"");
        }
        out.push('>');
        escape(&self.text, out);
        for child in &self.children {
            child.write(out);
        }
        let _ = write!(out, "</{}>", self.name);
    }

    /// Reads a document and returns its root; none when it is no XML of this kind.
    pub(crate) fn parse(document: &str) -> Option<Self> {
        let mut stack = vec![Self::default()];
        let mut rest = document;
        while let Some(start) = rest.find('<') {
            let top = stack.last_mut()?;
            top.text.push_str(&unescape(&rest[..start]));
            let end = start + rest[start..].find('>')?;
            let tag = &rest[start + 1..end];
            rest = &rest[end + 1..];
            if tag.starts_with('?') || tag.starts_with('!') {
                continue;
            }
            if let Some(name) = tag.strip_prefix('/') {
                let mut done = stack.pop()?;
                if done.name != name.trim() {
                    return None;
                }
                if !done.children.is_empty() {
                    done.text.clear();
                }
                stack.last_mut()?.children.push(done);
                continue;
            }
            let empty = tag.ends_with('/');
            let name = tag.trim_end_matches('/').split_whitespace().next()?;
            if empty {
                stack.last_mut()?.children.push(Self::new(name));
            } else {
                stack.push(Self::new(name));
            }
        }
        match stack.as_mut_slice() {
            [outer] => outer.children.pop(),
            _ => None,
        }
    }
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
}

fn unescape(text: &str) -> String {
    // The ampersand last, or an escaped escape would be taken for one.
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn what_is_written_is_read_back() {
        let root = Element::new("Answer")
            .with("value", "a < b & \"c\" &lt;")
            .list("set", ["x", "y"], |item, text| item.with("key", text))
            .child(Element::new("empty"));
        let read = Element::parse(&root.document()).expect("own output is XML");
        assert_eq!(read, root);
        assert_eq!(read.items("set").filter_map(|item| item.value("key")).collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn what_is_no_xml_is_refused() {
        for text in ["", "plain", "<a><b></a></b>", "<a>"] {
            assert_eq!(Element::parse(text), None, "{text}");
        }
    }
}
