//! Horizontal bars as SVG.

use std::fmt::Write as _;

use super::number;
use crate::peer::Name;

/// Bars that belong together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: String,
    pub(super) bars: Vec<(Name, f64)>,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 15.0;
const TITLE: f64 = 24.0;

/// Draws groups below each other, all to one scale.
pub(super) fn draw(title: &str, groups: &[Group]) -> String {
    let values = groups
        .iter()
        .flat_map(|group| &group.bars)
        .map(|(_, value)| *value);
    let longest = values.fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / longest;
    let mut body = String::new();
    let mut y = 36.0;
    for group in groups {
        let _ = writeln!(
            body,
            r#"<text x="8" y="{:.0}" font-weight="bold">{}</text>"#,
            y + 12.0,
            escape(&group.title)
        );
        y += TITLE - 4.0;
        for (name, value) in &group.bars {
            let width = (value.max(0.0) * scale).max(1.0);
            let middle = y + BAR - 4.0;
            let _ = writeln!(
                body,
                r#"<text x="{:.0}" y="{middle:.0}" text-anchor="end">{}</text><rect x="{LEFT}" y="{y:.0}" width="{width:.1}" height="{:.0}" fill="{}"/><text x="{:.1}" y="{middle:.0}">{}</text>"#,
                LEFT - 6.0,
                name.as_str(),
                BAR - 3.0,
                colour(*name),
                LEFT + width + 5.0,
                number(*value),
            );
            y += BAR;
        }
        y += 10.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" \
         viewBox=\"0 0 {WIDTH} {y:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"20\" font-size=\"15\">{}</text>\n{body}</svg>\n",
        escape(title)
    )
}

fn colour(name: Name) -> &'static str {
    match name {
        Name::Lateen => "#0b6e99",
        Name::Envoy => "#b8529f",
        Name::Nginx => "#5a9e5a",
        Name::Haproxy => "#c98b3a",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_width() {
        let group = Group {
            title: "a < b".to_owned(),
            bars: vec![(Name::Lateen, 1.0), (Name::Envoy, 4.0)],
        };
        let text = draw("t", &[group]);
        assert!(
            text.contains("width=\"610.0\"") && text.contains("width=\"152.5\""),
            "{text}"
        );
        assert!(text.contains("a &lt; b"));
    }
}
