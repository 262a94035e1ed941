//! The table of reasons in `docs/http-differences.md`: `| cases | difference | peers | reason |`, where
//! cases are names that may end in `*`.

/// The rows of the table.
#[derive(Debug)]
pub(super) struct Reasons(Vec<Row>);

#[derive(Debug)]
struct Row {
    cases: Vec<String>,
    differences: Vec<String>,
    peers: Vec<String>,
    used: usize,
}

impl Reasons {
    pub(super) fn parse(text: &str) -> Self {
        let rows = text.lines().filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
            let [cases, differences, peers, _] = cells.as_slice() else {
                return None;
            };
            let words = |cell: &str| {
                cell.split(", ")
                    .map(|word| word.trim().to_owned())
                    .collect()
            };
            let cases = cases.split('`').step_by(2).map(str::to_owned).collect();
            Some(Row {
                cases,
                differences: words(differences),
                peers: words(peers),
                used: 0,
            })
        });
        Reasons(rows.collect())
    }

    /// True where a row has this difference.
    pub(super) fn explain(&mut self, case: &str, difference: &str, peer: &str) -> bool {
        let mut found = false;
        for row in &mut self.0 {
            let named = row.cases.iter().any(|pattern| matches(pattern, case));
            let same = row.differences.iter().any(|known| known == difference);
            if named && same && row.peers.iter().any(|known| known == peer) {
                row.used += 1;
                found = true;
            }
        }
        found
    }

    /// How many differences had a reason.
    pub(super) fn used(&self) -> usize {
        self.0.iter().map(|row| row.used).sum()
    }

    /// Rows that nothing needs any more.
    pub(super) fn unused(&self) -> Vec<String> {
        let idle = self.0.iter().filter(|row| row.used == 0);
        idle.map(|row| {
            format!(
                "no difference any more: {} {:?}",
                row.cases.join(" "),
                row.differences
            )
        })
        .collect()
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_explain_what_they_name() {
        let text = "| cases | difference | peers | why |\n|---|---|---|---|\n\
                    | `a/*`, `b` | target, host | envoy, nginx | because |\n";
        let mut reasons = Reasons::parse(text);
        let mut check = |case, difference, peer, expect| {
            assert_eq!(
                reasons.explain(case, difference, peer),
                expect,
                "{case} {difference} {peer}"
            );
        };
        check("a/x", "target", "nginx", true);
        check("b", "host", "envoy", true);
        check("bb", "host", "envoy", false);
        check("b", "body", "envoy", false);
        check("b", "host", "haproxy", false);
        assert_eq!((reasons.used(), reasons.unused().len()), (2, 0));
        assert_eq!(Reasons::parse(text).unused().len(), 1);
    }
}
