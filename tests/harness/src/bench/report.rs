//! What was measured: the table, the JSON, and the comparison with what was measured before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::workspace_root;

/// A ratio may be so much worse than the recorded one before `CHECK=1` fails: the machine has other work, too.
pub(super) const MARGIN: f64 = 0.6;
/// … and this much in any case: small counts jump.
const SLACK: f64 = 0.3;

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// The figure itself, at most.
    AtMost(f64),
    /// The figure over its floor, at most.
    RatioAtMost(f64),
    /// The figure over its floor, at least.
    RatioAtLeast(f64),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    scenario: &'static str,
    name: &'static str,
    value: f64,
    unit: &'static str,
    floor: Option<f64>,
    goal: Option<Goal>,
    checked: bool,
}

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Figure {
    pub(super) fn new(scenario: &'static str, name: &'static str, value: f64, unit: &'static str) -> Self {
        Self { scenario, name, value, unit, floor: None, goal: None, checked: false }
    }

    /// The same without an operator, or as it should be.
    pub(super) fn floor(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self
    }

    pub(super) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Its ratio is compared with the recorded one.
    pub(super) fn checked(mut self) -> Self {
        self.checked = true;
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor > 0.0).map(|floor| self.value / floor)
    }

    fn reached(&self) -> Option<bool> {
        match self.goal? {
            Goal::AtMost(most) => Some(self.value <= most),
            Goal::RatioAtMost(most) => self.ratio().map(|ratio| ratio <= most),
            Goal::RatioAtLeast(least) => self.ratio().map(|ratio| ratio >= least),
        }
    }

    fn key(&self) -> String {
        format!("{} {}", self.scenario, self.name)
    }

    fn row(&self) -> [String; 7] {
        let goal = match self.goal {
            None => String::new(),
            Some(Goal::AtMost(most)) => format!("<= {}", short(most)),
            Some(Goal::RatioAtMost(most)) => format!("<= {} x floor", short(most)),
            Some(Goal::RatioAtLeast(least)) => format!(">= {} x floor", short(least)),
        };
        let verdict = match self.reached() {
            None => "",
            Some(true) => "reached",
            Some(false) => "MISSED",
        };
        [
            self.scenario.to_owned(),
            self.name.to_owned(),
            format!("{} {}", short(self.value), self.unit).trim_end().to_owned(),
            self.floor.map(short).unwrap_or_default(),
            self.ratio().map(short).unwrap_or_default(),
            goal,
            verdict.to_owned(),
        ]
    }
}

impl Report {
    pub(super) fn add(&mut self, figure: Figure) {
        println!("    {}", figure.row().join(" | "));
        self.figures.push(figure);
    }

    pub(super) fn note(&mut self, note: String) {
        println!("    {note}");
        self.notes.push(note);
    }

    /// The table, as Markdown.
    pub(super) fn table(&self) -> String {
        let heads = ["", "figure", "measured", "floor", "ratio", "goal", ""].map(str::to_owned);
        let rows = self.figures.iter().map(Figure::row).collect::<Vec<_>>();
        let width = |column: usize| {
            rows.iter().chain([&heads]).map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let widths = std::array::from_fn::<usize, 7, _>(width);
        let mut text = String::new();
        let mut line = |cells: &[String; 7]| {
            for (cell, width) in cells.iter().zip(widths) {
                let _ = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
        };
        line(&heads);
        line(&widths.map(|width| "-".repeat(width)));
        rows.iter().for_each(line);
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }

    pub(super) fn json(&self, mode: &str) -> Value {
        let figures = self.figures.iter().map(|figure| {
            json!({"scenario": figure.scenario, "name": figure.name, "value": figure.value, "unit": figure.unit,
                "floor": figure.floor, "ratio": figure.ratio(), "reached": figure.reached()})
        });
        json!({"mode": mode, "figures": figures.collect::<Vec<_>>(), "notes": self.notes})
    }

    /// The ratios that are compared, and whether more is better.
    fn ratios(&self) -> BTreeMap<String, (f64, bool)> {
        let checked = self.figures.iter().filter(|figure| figure.checked);
        let more_is_better = |figure: &Figure| matches!(figure.goal, Some(Goal::RatioAtLeast(_)));
        checked.filter_map(|figure| Some((figure.key(), (figure.ratio()?, more_is_better(figure))))).collect()
    }

    /// What is worse than recorded, or was never recorded.
    pub(super) fn compare(&self, mode: &str) -> Result<Vec<String>> {
        let path = baseline();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("nothing is recorded in {}", path.display()))?;
        let recorded = serde_json::from_str::<Value>(&text)?;
        let worse = self.ratios().into_iter().filter_map(|(key, (ratio, more_is_better))| {
            let Some(old) = recorded[mode][&key].as_f64() else {
                return Some(format!("{key}: nothing is recorded to compare with: RECORD=1 does it"));
            };
            let is_worse =
                if more_is_better { ratio < old / (1.0 + MARGIN) } else { ratio > old * (1.0 + MARGIN) + SLACK };
            is_worse.then(|| format!("{key}: {} x floor, recorded {}", short(ratio), short(old)))
        });
        Ok(worse.collect())
    }

    /// Records the ratios for later comparisons.
    pub(super) fn record(&self, mode: &str) -> Result<()> {
        let path = baseline();
        let old = std::fs::read_to_string(&path).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let mut all = old.unwrap_or_else(|| json!({}));
        for (key, (ratio, _)) in self.ratios() {
            all[mode][key] = json!((ratio * 1000.0).round() / 1000.0);
        }
        std::fs::write(&path, format!("{all:#}\n")).with_context(|| format!("cannot write {}", path.display()))
    }
}

fn baseline() -> PathBuf {
    workspace_root().join("tests/harness/bench-baseline.json")
}

/// A figure with three digits that say something.
fn short(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 || value == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The q-quantile of figures (0 to 1); 0 without any.
pub(super) fn quantile(figures: &mut [f64], q: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = ((figures.len() as f64 * q).ceil() as usize).saturating_sub(1);
    figures.get(index.min(figures.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_figures_themselves() {
        let mut figures = (1..=100).map(f64::from).collect::<Vec<_>>();
        assert_eq!(quantile(&mut figures, 0.5).to_bits(), 50.0_f64.to_bits());
        assert_eq!(quantile(&mut figures, 0.99).to_bits(), 99.0_f64.to_bits());
        assert_eq!(quantile(&mut [], 0.5).to_bits(), 0.0_f64.to_bits());
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([0.0, 0.01234, 1.5, 12.34, 1234.5].map(short), ["0", "0.0123", "1.5", "12.3", "1234"]);
    }

    #[test]
    fn the_goal_is_that_of_the_ratio_or_of_the_figure() {
        let figure = Figure::new("B1", "requests", 3.0, "").floor(2.0);
        assert_eq!(figure.clone().goal(Goal::RatioAtMost(1.5)).reached(), Some(true));
        assert_eq!(figure.clone().goal(Goal::RatioAtLeast(1.6)).reached(), Some(false));
        assert_eq!(figure.goal(Goal::AtMost(2.0)).reached(), Some(false));
    }
}
