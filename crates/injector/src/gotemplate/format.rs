//! Values as Go prints them, and `printf`.

use serde_json::Value;

/// As `{{ . }}` prints it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        other => nested(other),
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(nested).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| key.as_str());
            let pairs = pairs.into_iter();
            let pairs: Vec<String> = pairs
                .map(|(key, value)| format!("{key}:{}", nested(value)))
                .collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// `print`: blanks stand between neighbours neither of which is a text.
pub(super) fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (n, arg) in args.iter().enumerate() {
        if n > 0 && !arg.is_string() && !args[n - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&nested(arg));
    }
    out
}

/// `println`, with a blank between all.
pub(super) fn println(args: &[Value]) -> String {
    let args: Vec<String> = args.iter().map(nested).collect();
    args.join(" ") + "\n"
}

/// A verb of `printf`: `%-10s`, `%05d`, `%.2f`.
#[derive(Default)]
struct Verb {
    left: bool,
    zeros: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// `printf` with the verbs s, v, d, q, t, f, x and X.
pub(super) fn printf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = format.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = rest.next_if(|c| ['-', '0', '+', '#', ' '].contains(c)) {
            match flag {
                '-' => verb.left = true,
                '0' => verb.zeros = true,
                '+' => verb.plus = true,
                _ => {}
            }
        }
        verb.width = digits(&mut rest).unwrap_or_default();
        if rest.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut rest).unwrap_or_default());
        }
        match rest.next() {
            Some('%') => out.push('%'),
            Some(kind) => match args.next() {
                Some(arg) => out.push_str(&verb.write(kind, arg)?),
                None => out.push_str(&format!("%!{kind}(MISSING)")),
            },
            None => return Err("the format ends with a % alone".to_owned()),
        }
    }
    Ok(out)
}

fn digits(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        let digit = digit.to_digit(10)? as usize;
        // No text is to be wider than that.
        number = Some((number.unwrap_or(0) * 10 + digit).min(1000));
    }
    number
}

impl Verb {
    fn write(&self, kind: char, arg: &Value) -> Result<String, String> {
        let text = match kind {
            's' | 'v' => {
                let text = nested(arg);
                match self.precision {
                    Some(most) if kind == 's' => text.chars().take(most).collect(),
                    _ => text,
                }
            }
            'q' => Value::String(nested(arg)).to_string(),
            't' => nested(arg),
            'd' => match arg.as_i64() {
                Some(number) if self.plus => format!("{number:+}"),
                Some(number) => number.to_string(),
                None => format!("%!d({})", nested(arg)),
            },
            'f' | 'g' => match arg.as_f64() {
                Some(number) if kind == 'f' => format!("{number:.*}", self.precision.unwrap_or(6)),
                Some(number) => number.to_string(),
                None => format!("%!{kind}({})", nested(arg)),
            },
            'x' | 'X' => {
                let hex = match arg.as_i64() {
                    Some(number) => format!("{number:x}"),
                    None => nested(arg).bytes().map(|b| format!("{b:02x}")).collect(),
                };
                if kind == 'X' { hex.to_uppercase() } else { hex }
            }
            other => return Err(format!("the verb %{other} is not supported")),
        };
        Ok(self.pad(text))
    }

    fn pad(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        match text.strip_prefix('-') {
            Some(digits) if self.zeros => format!("-{}{digits}", "0".repeat(missing)),
            _ if self.left => text + &" ".repeat(missing),
            _ if self.zeros => "0".repeat(missing) + &text,
            _ => " ".repeat(missing) + &text,
        }
    }
}
