//! Stub.
use super::*;
impl Decision<'_> { pub(super) fn swing(&self) -> Flow<Option<Done>> { todo!() } }
