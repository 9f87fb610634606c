//! What a call's client is told when the call fails. Clients match on the code, people read the text.

use std::fmt;

use containerd_shim_protos::ttrpc::{self, Code};

use crate::runtime::{Kind, RuntimeError};

/// The error of a call.
#[derive(Debug)]
pub struct RpcError {
    code: Code,
    text: String,
}

/// The result of a call.
pub type RpcResult<T> = Result<T, RpcError>;

impl RpcError {
    pub fn not_found(text: impl Into<String>) -> RpcError {
        RpcError { code: Code::NOT_FOUND, text: text.into() }
    }

    pub fn already_exists(text: impl Into<String>) -> RpcError {
        RpcError { code: Code::ALREADY_EXISTS, text: text.into() }
    }

    /// The state of the container or the process doesn't allow the call.
    pub fn failed_precondition(text: impl Into<String>) -> RpcError {
        RpcError { code: Code::FAILED_PRECONDITION, text: text.into() }
    }

    pub fn invalid_argument(text: impl Into<String>) -> RpcError {
        RpcError { code: Code::INVALID_ARGUMENT, text: text.into() }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RpcError {}

impl From<RuntimeError> for RpcError {
    fn from(error: RuntimeError) -> RpcError {
        anyhow::Error::from(error).into()
    }
}

/// A runtime's error has the code of its kind, whatever was told around it. All else has none of its own.
impl From<anyhow::Error> for RpcError {
    fn from(error: anyhow::Error) -> RpcError {
        let code = match error.downcast_ref().map(RuntimeError::kind) {
            Some(Kind::NotFound) => Code::NOT_FOUND,
            Some(Kind::AlreadyExists) => Code::ALREADY_EXISTS,
            Some(Kind::Other) | None => Code::UNKNOWN,
        };
        RpcError { code, text: format!("{error:#}") }
    }
}

impl From<RpcError> for ttrpc::Error {
    fn from(error: RpcError) -> ttrpc::Error {
        ttrpc::Error::RpcStatus(ttrpc::get_status(error.code, error.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_kind_of_a_runtimes_error_is_the_code_whatever_is_told_around_it() {
        let failed = |text: &str| RuntimeError::failed("crun", text);
        for (text, code) in [
            ("container `web` does not exist", Code::NOT_FOUND),
            ("container `web` already exists", Code::ALREADY_EXISTS),
            ("the file does not exist", Code::UNKNOWN),
        ] {
            let error = Err::<(), _>(failed(text)).context("start web").unwrap_err();
            let error = RpcError::from(error);
            assert_eq!((error.code, error.text), (code, format!("start web: crun: {text}")));
            assert_eq!(RpcError::from(failed(text)).code, code);
        }
        assert_eq!(RpcError::from(anyhow::anyhow!("container does not exist")).code, Code::UNKNOWN);
    }
}
