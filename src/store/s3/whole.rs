//! Answers that end too early. The client reads XML as far as it comes and takes what is missing for nothing: of a list
//! that was cut the rest would not be there. Where a length says how much is to come, a cut is an error by itself; where
//! the end of the connection ends the answer, or something on the way has cut it and says another length, nothing is.

use std::fmt;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

/// Refuses a good answer whose XML does not end. To the caller it is one that was lost.
#[derive(Debug)]
pub(super) struct WholeAnswers;

impl Intercept for WholeAnswers {
    fn name(&self) -> &'static str {
        "WholeAnswers"
    }

    // The body is here by now, but for what is read as a stream.
    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response();
        match response.body().bytes() {
            Some(body) if response.status().is_success() && !is_whole(body) => Err(Cut.into()),
            _ => Ok(()),
        }
    }
}

/// What is said of such an answer.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer ends too early")
    }
}

impl std::error::Error for Cut {}

/// Whether text that begins as XML has all of its outermost element, and nothing behind it. What is no XML is left to who
/// reads it; many answers have no text at all.
fn is_whole(text: &[u8]) -> bool {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text).trim_ascii();
    if !text.starts_with(b"<") {
        return true;
    }
    let mut rest = text;
    // The declaration, and what else may stand before the element.
    while rest.starts_with(b"<?") || rest.starts_with(b"<!") {
        let Some(end) = rest.iter().position(|byte| *byte == b'>') else { return false };
        rest = rest.split_at(end + 1).1.trim_ascii_start();
    }
    let Some(inner) = rest.strip_prefix(b"<").and_then(|rest| rest.strip_suffix(b">")) else { return false };
    if inner.ends_with(b"/") && !inner.contains(&b'<') {
        return true; // It has no content: `<VersioningConfiguration/>`.
    }
    let is_name = |byte: &u8| !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'>');
    let name: Vec<u8> = inner.iter().copied().take_while(is_name).collect();
    let before = inner.trim_ascii_end().strip_suffix(&*name);
    !name.is_empty() && before.is_some_and(|before| before.ends_with(b"</"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_element_is_closed() {
        const LIST: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                            <IsTruncated>false</IsTruncated><Contents><Key>a</Key><Owner/></Contents></ListBucketResult>";
        assert!(is_whole(LIST.as_bytes()));
        for end in 1..LIST.len() {
            assert!(!is_whole(&LIST.as_bytes()[..end]), "{}", &LIST[..end]);
        }
        let around = ["\u{feff}", "\n  ", "<?xml version=\"1.0\"?>\n \n "];
        for before in around {
            for after in ["", "\n", " \r\n"] {
                for element in ["<A></A>", "<A ></A >", "<A/>", "<A b=\"c/\" />", "<s:A><B/></s:A>"] {
                    let text = format!("{before}{element}{after}");
                    assert!(is_whole(text.as_bytes()), "{text:?}");
                }
                for cut in
                    ["<", "<A>", "<A", "<A><B/>", "<A></B>", "<A><B></B>", "</", "<>", "<AA></A>", "<A></AA>"]
                {
                    let text = format!("{before}{cut}{after}");
                    assert!(!is_whole(text.as_bytes()), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_xml_is_left_to_others() {
        for text in ["", " \n", "{\"a\": 1}", "text <b>"] {
            assert!(is_whole(text.as_bytes()), "{text:?}");
        }
    }
}
