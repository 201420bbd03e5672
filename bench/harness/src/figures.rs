//! What was measured: times, and the load a server took.

use std::time::Duration;

/// Times of single calls.
#[derive(Debug, Clone, Default)]
pub struct Times {
    times: Vec<Duration>,
    sorted: bool,
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        self.times.push(time);
        self.sorted = false;
    }

    pub fn append(&mut self, mut others: Self) {
        self.times.append(&mut others.times);
        self.sorted = false;
    }

    pub fn count(&self) -> usize {
        self.times.len()
    }

    /// The time within which this share of the calls was answered.
    pub fn at(&mut self, share: f64) -> Duration {
        if !self.sorted {
            self.times.sort_unstable();
            self.sorted = true;
        }
        let rank = (share * self.times.len() as f64).ceil() as usize;
        rank.clamp(1, self.times.len().max(1))
            .checked_sub(1)
            .and_then(|at| self.times.get(at))
            .copied()
            .unwrap_or_default()
    }
}

/// What a server did in one run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Requests or events a second.
    pub rate: f64,
    pub p50: Duration,
    pub p99: Duration,
}

impl Load {
    /// The middle of several runs, each figure by itself.
    pub fn median(loads: &[Self]) -> Self {
        fn of<T: PartialOrd>(loads: &[Load], figure: fn(&Load) -> T) -> T {
            median(loads.iter().map(figure).collect())
        }
        Self { rate: of(loads, |l| l.rate), p50: of(loads, |l| l.p50), p99: of(loads, |l| l.p99) }
    }
}

/// The middle one.
pub fn median<T: PartialOrd>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).expect("measured figures are numbers"));
    values.swap_remove(values.len() / 2)
}
