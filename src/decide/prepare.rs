//! Stub.
use super::*;
impl Decision<'_> { pub(super) fn prepare(&self) -> Flow<()> { todo!() } }
