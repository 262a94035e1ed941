//! Messages that the user does not want to hear.

use std::str::FromStr;

use lateen_galley::analyze::{Code, Message};

/// `IST0103=Pod *.testing`: the code, the kind, the name and the namespace.
#[derive(Clone, Debug)]
pub(super) struct Suppression {
    code: Code,
    resource: String,
}

impl FromStr for Suppression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((code, resource)) = text.split_once('=') else {
            return Err(
                "is not of the form CODE=RESOURCE, as in 'IST0102=Namespace shop'".to_owned(),
            );
        };
        let code = code
            .trim()
            .parse::<Code>()
            .map_err(|error| error.to_string())?;
        let resource = resource.trim().to_owned();
        Ok(Suppression { code, resource })
    }
}

impl Suppression {
    /// The resource may be written as it is printed, too.
    pub(super) fn is_for(&self, message: &Message) -> bool {
        let Message {
            kind,
            namespace,
            name,
            ..
        } = message;
        let dotted = match namespace.as_str() {
            "" => format!("{kind} {name}"),
            namespace => format!("{kind} {name}.{namespace}"),
        };
        message.code == self.code
            && (is_like(&self.resource, &dotted) || is_like(&self.resource, &message.origin()))
    }
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(tail) = text.strip_prefix(first) else {
        return false;
    };
    let ends = tail.char_indices().map(|(at, _)| at).chain([tail.len()]);
    ends.into_iter().any(|at| is_like(rest, &tail[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stand_for_resources() {
        let message = Message {
            code: Code::PodMissingProxy,
            text: String::new(),
            group: String::new(),
            kind: "Pod".to_owned(),
            namespace: "testing".to_owned(),
            name: "web-1".to_owned(),
            field: String::new(),
            reference: None,
        };
        let check = |text: &str, expect: bool| {
            let rule: Suppression = text.parse().expect(text);
            assert_eq!(rule.is_for(&message), expect, "{text}");
        };
        check("IST0103=Pod web-1.testing", true);
        check("IST0103=Pod testing/web-1", true);
        check("IST0103=Pod *.testing", true);
        check("IST0103=*", true);
        check("ist0103=Pod web-*.t*g", true);
        check("IST0103=Pod web-2.testing", false);
        check("IST0103=Deployment *", false);
        check("IST0102=*", false);
        assert!("IST0103".parse::<Suppression>().is_err());
        assert!("IST9999=*".parse::<Suppression>().is_err());
    }
}
