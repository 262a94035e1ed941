//! Messages that the user does not want to hear.

use std::str::FromStr;

use lateen_galley::analyze::{Code, Message};

/// Codes that are public, from one to another. Of some of them this analysis has no message; whoever
/// has them in a script need not take them out.
const PUBLIC: [(u16, u16); 7] = [
    (1, 2),
    (101, 103),
    (106, 112),
    (116, 116),
    (118, 118),
    (123, 123),
    (125, 177),
];

/// `IST0103=Pod *.testing`: the code, the kind, the name and the namespace.
#[derive(Clone, Debug)]
pub(super) struct Suppression {
    /// None is one of which there is no message.
    code: Option<Code>,
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
        let code = match code.trim().parse::<Code>() {
            Ok(code) => Some(code),
            Err(_) if is_public(code.trim()) => None,
            Err(error) => return Err(error.to_string()),
        };
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
        self.code == Some(message.code)
            && (is_like(&self.resource, &dotted) || is_like(&self.resource, &message.origin()))
    }
}

fn is_public(code: &str) -> bool {
    let digits = code
        .get(..3)
        .filter(|start| start.eq_ignore_ascii_case("IST"))
        .and_then(|_| code.get(3..))
        .filter(|digits| digits.len() == 4 && digits.bytes().all(|it| it.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse::<u16>().ok());
    let mut ranges = PUBLIC.iter();
    number.is_some_and(|number| ranges.any(|(first, last)| (*first..=*last).contains(&number)))
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
        // Public codes of which there is no message here match nothing.
        for public in ["IST0001=*", "IST0136=*", "ist0141=Pod *", "IST0170=*"] {
            check(public, false);
        }
        for unknown in ["IST0104=*", "IST0178=*", "IST1=*", "IST+001=*", "XST0101=*"] {
            assert!(unknown.parse::<Suppression>().is_err(), "{unknown}");
        }
        assert!("IST0103".parse::<Suppression>().is_err());
        assert!("IST9999=*".parse::<Suppression>().is_err());
    }
}
