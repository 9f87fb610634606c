//! What a call's client is told when it fails. Clients match on the code, people read the text.

use anyhow::Error;
use containerd_shim_protos::ttrpc::{self, Code};

/// A failed call.
#[derive(Debug)]
pub struct Fault {
    code: Code,
    text: String,
}

/// The answer to a call.
pub type Answer<T> = Result<T, Fault>;

impl Fault {
    pub fn not_found(text: impl Into<String>) -> Fault {
        Fault { code: Code::NOT_FOUND, text: text.into() }
    }

    pub fn exists(text: impl Into<String>) -> Fault {
        Fault { code: Code::ALREADY_EXISTS, text: text.into() }
    }

    /// The container or process is in a state that has no such call.
    pub fn precondition(text: impl Into<String>) -> Fault {
        Fault { code: Code::FAILED_PRECONDITION, text: text.into() }
    }

    pub fn invalid(text: impl Into<String>) -> Fault {
        Fault { code: Code::INVALID_ARGUMENT, text: text.into() }
    }

    pub fn is_not_found(&self) -> bool {
        self.code == Code::NOT_FOUND
    }
}

/// Whatever else went wrong; runtimes tell kinds of errors by their text alone.
impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        let text = format!("{error:#}");
        let code = match text.as_str() {
            text if text.contains("does not exist") => Code::NOT_FOUND,
            text if text.contains("already exists") => Code::ALREADY_EXISTS,
            _ => Code::UNKNOWN,
        };
        Fault { code, text }
    }
}

impl From<Fault> for ttrpc::Error {
    fn from(fault: Fault) -> ttrpc::Error {
        ttrpc::Error::RpcStatus(ttrpc::get_status(fault.code, fault.text))
    }
}
