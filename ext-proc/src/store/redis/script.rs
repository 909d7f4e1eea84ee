use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::{Arg, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, aio};

use super::{PREFIX, leases_key};

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
        let code = format!("{}{body}", include_str!("../lua/common.lua"));
        let hash = ::redis::Script::new(&code).get_hash().to_owned();
        Self { code, hash, whole: AtomicBool::new(false) }
    }

    /// A call with the arguments that all have.
    pub(super) fn call(&self) -> Call<'_> {
        let mut command = ::redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(1).arg(leases_key()).arg(PREFIX);
        Call { script: self, command }
    }
}

impl Call<'_> {
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        connection: &mut impl aio::ConnectionLike,
    ) -> RedisResult<T> {
        if !self.script.whole.load(Ordering::Relaxed) {
            match self.command.query_async(connection).await {
                Err(error) if is_unknown(&error) => {}
                Err(error) if is_refused(&error) => self.script.whole.store(true, Ordering::Relaxed),
                answer => return answer,
            }
        }
        self.whole().query_async(connection).await
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

fn is_unknown(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Of the command itself; scripts that are refused what they do inside name another one.
fn is_refused(error: &RedisError) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    text.contains("evalsha") && (text.contains("unknown command") || text.contains("permission"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_script_is_called_with_the_same_arguments() {
        let script = Script::new("return 1");
        let mut call = script.call();
        call.command.arg("").arg(7);
        let packed = String::from_utf8(call.whole().get_packed_command()).unwrap();
        assert!(packed.starts_with("*7\r\n$4\r\nEVAL\r\n"), "{packed}");
        assert!(packed.ends_with("$0\r\n\r\n$1\r\n7\r\n"), "{packed}");
        assert!(packed.contains("return 1\r\n$1\r\n1\r\n$25\r\nattache:{counters}:leases\r\n"), "{packed}");
    }
}
