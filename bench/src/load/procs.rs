//! CPU time and memory of processes, from /proc.

use std::fs;
use std::time::Duration;

/// A process to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub name: String,
    pub pid: u32,
}

impl Process {
    /// From the command line, `name=PID`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let pair = text.split_once('=').and_then(|(name, pid)| Some((name, pid.parse().ok()?)));
        match pair {
            Some((name, pid)) if !name.is_empty() => Ok(Self { name: name.to_owned(), pid }),
            _ => Err("want NAME=PID, such as envoy=1234".into()),
        }
    }

    /// What it has used so far.
    pub(super) fn sample(&self) -> Result<Sample, String> {
        let read = |file: &str| {
            let path = format!("/proc/{}/{file}", self.pid);
            fs::read_to_string(&path).map_err(|error| format!("--pid {}: {path}: {error}", self.name))
        };
        let strange = || format!("--pid {}: /proc/{}/stat cannot be understood", self.name, self.pid);
        let cpu = cpu(&read("stat")?).ok_or_else(strange)?;
        let status = read("status")?;
        Ok(Sample { cpu, rss: kibibytes(&status, "VmRSS:"), peak_rss: kibibytes(&status, "VmHWM:") })
    }
}

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Of all threads, those that have ended too.
    pub cpu: Duration,
    /// Resident memory now, and the most so far, bytes; 0 for a process that has just died.
    pub rss: u64,
    pub peak_rss: u64,
}

/// User and system time of `/proc/PID/stat`.
fn cpu(stat: &str) -> Option<Duration> {
    // The program's name is in parentheses and may have any character; the state follows.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let nanos = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_nanos(ticks * nanos))
}

fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 4 0 100 1000 10";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("nothing"), None);
    }

    #[test]
    fn this_process_has_memory_and_uses_cpu() {
        let this = Process { name: "this".into(), pid: std::process::id() };
        let before = this.sample().unwrap();
        assert!(before.rss > 100_000 && before.peak_rss >= before.rss);
        let begun = std::time::Instant::now();
        while this.sample().unwrap().cpu == before.cpu {
            assert!(begun.elapsed() < Duration::from_secs(10), "no CPU time in ten seconds");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(Process::parse("envoy=12"), Ok(Process { name: "envoy".into(), pid: 12 }));
        for text in ["12", "=12", "envoy=", "envoy=x"] {
            assert!(Process::parse(text).unwrap_err().contains("NAME=PID"), "{text}");
        }
        let gone = Process { name: "gone".into(), pid: u32::MAX };
        assert!(gone.sample().unwrap_err().contains("--pid gone"));
    }
}
