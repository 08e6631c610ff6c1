//! Restart policies: whether a container that has ended begins again, and after how long.

use std::time::Duration;

use coracle_sys::{Error, Result};

/// `--restart`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Policy {
    /// It stays as it ended.
    #[default]
    No,
    /// Where it ended with another code than 0, so many times; without a number for ever.
    OnFailure(Option<u64>),
    /// However it ended; after a reboot as well.
    Always,
    /// As `always`, but not after a reboot where it was stopped before.
    UnlessStopped,
}

impl Policy {
    /// As docker writes them.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(match text.split_once(':').unwrap_or((text, "")) {
            ("no" | "", "") => Self::No,
            ("always", "") => Self::Always,
            ("unless-stopped", "") => Self::UnlessStopped,
            ("on-failure", "") => Self::OnFailure(None),
            ("on-failure", n) => match n.parse() {
                Ok(0) => Self::OnFailure(None),
                Ok(n) => Self::OnFailure(Some(n)),
                Err(_) => return Err(Error::usage(format!("--restart {text:?}: {n:?} is no number"))),
            },
            _ => {
                return Err(Error::usage(format!(
                    "--restart {text:?}: there are no, on-failure[:N], always and unless-stopped"
                )));
            }
        })
    }

    /// Its name, and how often it is tried, as docker tells them.
    pub(crate) fn told(&self) -> (&'static str, u64) {
        match self {
            Self::No => ("no", 0),
            Self::OnFailure(n) => ("on-failure", n.unwrap_or(0)),
            Self::Always => ("always", 0),
            Self::UnlessStopped => ("unless-stopped", 0),
        }
    }

    /// Whether `start --all` brings it back, after a reboot: as docker has it, where only `unless-stopped` heeds that its
    /// user has stopped it. One that ran when the power went has failed.
    pub(crate) fn returns(&self, stopped: bool, code: i32, restarts: u64) -> bool {
        match self {
            Self::UnlessStopped => !stopped,
            _ => self.again(code, restarts),
        }
    }

    /// Whether a container begins again that nobody has stopped: it ended with this code, and has begun again so many
    /// times before.
    pub(crate) fn again(&self, code: i32, restarts: u64) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && most.is_none_or(|most| restarts < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// How long to wait before the next try: as docker has it, a tenth of a second, twice as long each time up to a minute, and
/// from the beginning where it ran for ten seconds.
pub(crate) fn delay(last: Option<Duration>, ran: Duration) -> Duration {
    const FIRST: Duration = Duration::from_millis(100);
    match last {
        Some(last) if ran < Duration::from_secs(10) => (last * 2).min(Duration::from_secs(60)),
        _ => FIRST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_decides_by_how_it_ended() {
        for (text, code, restarts, again) in [
            ("no", 1, 0, false),
            ("on-failure", 0, 0, false),
            ("on-failure", 1, 1000, true),
            ("on-failure:3", 1, 2, true),
            ("on-failure:3", 1, 3, false),
            ("always", 0, 0, true),
            ("unless-stopped", 0, 7, true),
        ] {
            assert_eq!(Policy::parse(text).unwrap().again(code, restarts), again, "{text} {code} {restarts}");
        }
        // What a docker daemon does that was killed with all its containers.
        for (text, stopped, code, restarts, returns) in [
            ("no", false, 137, 0, false),
            ("always", true, 137, 0, true),
            ("always", true, 0, 0, true),
            ("unless-stopped", true, 137, 0, false),
            ("unless-stopped", false, 0, 0, true),
            ("on-failure", false, 137, 0, true),
            ("on-failure", true, 137, 0, true),
            ("on-failure", false, 0, 0, false),
            ("on-failure:3", false, 137, 2, true),
            ("on-failure:1", false, 3, 1, false),
        ] {
            assert_eq!(
                Policy::parse(text).unwrap().returns(stopped, code, restarts),
                returns,
                "{text} {stopped} {code} {restarts}"
            );
        }
        for wrong in ["sometimes", "always:3", "on-failure:x", "on-failure:-1"] {
            assert!(Policy::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_delay_grows_until_it_has_run_for_a_while() {
        let ms = Duration::from_millis;
        assert_eq!(delay(None, ms(1)), ms(100));
        assert_eq!(delay(Some(ms(100)), ms(1)), ms(200));
        assert_eq!(delay(Some(ms(50_000)), ms(1)), ms(60_000));
        assert_eq!(delay(Some(ms(60_000)), ms(10_000)), ms(100));
    }
}
