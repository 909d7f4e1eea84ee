use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::{Arg, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, aio};

use super::{PREFIX, leases_key};

const HEAD: &str = include_str!("../lua/common.lua");

/// A script that is sent by its hash, and whole when the server does not know it (restart, failover, flush) or knows
/// no hashes at all. Always one command, hence one round trip.
pub(super) struct Script {
    code: String,
    hash: String,
    /// The server refuses `EVALSHA`.
    whole: AtomicBool,
}

/// One call of a script: its command with the arguments so far.
pub(super) struct Call<'a> {
    script: &'a Script,
    pub(super) command: Cmd,
}

impl Script {
    /// `body` below the common head.
    pub(super) fn new(body: &str) -> Self {
        Self::of(format!("{HEAD}{body}"))
    }

    /// Its clock is a key: milliseconds.
    #[cfg(test)]
    pub(super) fn simulated(&self) -> Self {
        let clock = "redis.call('TIME')";
        assert!(self.code.contains(clock));
        let simulated = "(function(ms) return {math.floor(ms / 1000), ms % 1000 * 1000} end)\
                         (tonumber(redis.call('GET', P .. 'clock')))";
        Self::of(self.code.replace(clock, simulated))
    }

    fn of(code: String) -> Self {
        let hash = ::redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash, whole: AtomicBool::new(false) }
    }

    /// A call with the arguments that all have. It is refused by a server whose epoch is another; the empty one is
    /// any.
    pub(super) fn call(&self, epoch: &str) -> Call<'_> {
        let mut command = ::redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(1).arg(leases_key()).arg(PREFIX).arg(epoch);
        Call { script: self, command }
    }
}

impl Call<'_> {
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        connection: &mut impl aio::ConnectionLike,
    ) -> RedisResult<T> {
        if self.script.whole.load(Ordering::Relaxed) {
            return self.whole().query_async(connection).await;
        }
        let refused = match self.command.query_async(connection).await {
            Err(error) if is_unknown(&error) => false,
            Err(error) if is_refused(&error) => true,
            answer => return answer,
        };
        let answer = self.whole().query_async(connection).await;
        if refused && answer.is_ok() {
            self.script.whole.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// The same as `EVAL`, which also makes the server remember the script.
    fn whole(&self) -> Cmd {
        let mut command = ::redis::cmd("EVAL");
        command.arg(&self.script.code);
        for argument in self.command.args_iter().skip(2) {
            if let Arg::Simple(bytes) = argument {
                command.arg(bytes);
            }
        }
        command
    }
}

/// The server has not seen the script yet, or lost it. Proxies put their own code before the text.
fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
        || error.code().is_some() && error.to_string().contains("NOSCRIPT")
}

/// The command itself is refused (renamed, not in the access list, not spoken by a proxy), not what the script does:
/// such an answer names the script.
fn is_refused(error: &RedisError) -> bool {
    const WORDINGS: [&str; 8] = [
        "unknown command",
        "invalid command",
        "unsupported",
        "not support",
        "not allowed",
        "permission",
        "disabled",
        "forbidden",
    ];
    // `None`: no answer of a server. No memory, no disk: temporary, and so for every command.
    if matches!(error.code(), None | Some("OOM" | "MISCONF")) {
        return false;
    }
    // The first word counts as the code, whatever it is.
    let text = [error.code(), error.detail()].map(Option::unwrap_or_default).join(" ").to_ascii_lowercase();
    let is_of_script = ["script:", "user_script", "running script"].iter().any(|mark| text.contains(mark));
    !is_of_script && WORDINGS.iter().any(|wording| text.contains(wording))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_script_is_called_with_the_same_arguments() {
        let script = Script::new("return 1");
        let mut call = script.call("e");
        call.command.arg("").arg(7);
        let packed = String::from_utf8(call.whole().get_packed_command()).unwrap();
        assert!(packed.starts_with("*8\r\n$4\r\nEVAL\r\n"), "{packed}");
        assert!(packed.ends_with("$0\r\n\r\n$1\r\n7\r\n"), "{packed}");
        assert!(packed.contains("return 1\r\n$1\r\n1\r\n$25\r\nattache:{counters}:leases\r\n"), "{packed}");
    }

    /// As the parser makes them of what a server says.
    fn error(line: &str) -> RedisError {
        let value = ::redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn a_refused_command_is_told_from_a_script_that_fails() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        for line in [
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "NOPERM User attache has no permissions to run the 'evalsha' command",
            "ERR unknown command `EVALSHA`, with args beginning with: ",
            "ERR unknown command 'EVALSHA', with args beginning with: 'x' ",
            "ERR unsupported command 'evalsha'",
            "ERR command 'EVALSHA' not support for normal user",
            "ERR command 'EVALSHA' is not allowed",
            "unknown command evalsha",
        ] {
            assert!(is_refused(&error(line)) && !is_unknown(&error(line)), "{line}");
        }
        for line in ["NOSCRIPT No matching script. Please use EVAL.", "ERR NOSCRIPT no such script"] {
            assert!(is_unknown(&error(line)) && !is_refused(&error(line)), "{line}");
        }
        for line in [
            "EPOCH the data is another or gone",
            "READONLY You can't write against a read only replica.",
            "NOAUTH Authentication required.",
            "LOADING Redis is loading the dataset in memory",
            "OOM command not allowed when used memory > 'maxmemory'.",
            &format!(
                "NOPERM this user has no permissions to run the 'zadd' command script: {hash}, on @user_script:9."
            ),
            &format!(
                "ERR Error running script (call to f_{hash}): @user_script:9: Unknown command called from script"
            ),
        ] {
            assert!(!is_refused(&error(line)) && !is_unknown(&error(line)), "{line}");
        }
    }
}
