//! Figures, and the table that they are printed as.

use std::time::Duration;

/// Rows as they are printed.
#[derive(Default)]
pub(crate) struct Figures {
    rows: Vec<[String; 4]>,
}

impl Figures {
    /// What others are compared with.
    pub(crate) fn measure(&mut self, what: &str, took: Duration) -> Duration {
        self.row(what, took, String::new(), String::new());
        took
    }

    pub(crate) fn tell(&mut self, what: &str, took: Duration) {
        self.row(what, took, String::new(), String::new());
    }

    pub(crate) fn compare(
        &mut self,
        what: &str,
        took: Duration,
        measure: Duration,
        goal: Option<f64>,
    ) {
        let ratio = took.as_secs_f64() / measure.as_secs_f64();
        let goal = goal.map(|goal| verdict(ratio <= goal, &format!("{goal} x")));
        self.row(what, took, format!("{ratio:.2} x"), goal.unwrap_or_default());
    }

    pub(crate) fn limit(&mut self, what: &str, took: Duration, goal: Duration) {
        let goal = verdict(took <= goal, &format!("{} ms", goal.as_millis()));
        self.row(what, took, String::new(), goal);
    }

    fn row(&mut self, what: &str, took: Duration, ratio: String, goal: String) {
        let took = format!("{:.1} ms", took.as_secs_f64() * 1000.0);
        self.rows.push([what.to_owned(), took, ratio, goal]);
    }

    pub(crate) fn print(&self) {
        for [what, took, ratio, goal] in &self.rows {
            println!("{what:<44} {took:>12} {ratio:>8}  {goal}");
        }
    }
}

fn verdict(holds: bool, goal: &str) -> String {
    format!("{} (goal: {goal})", if holds { "held" } else { "MISSED" })
}

pub(crate) fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

/// The time that so many percent of the times are not above.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}
