//! Stub.
use super::*;
impl Decision<'_> { pub(super) fn cutover(&self) -> Flow<()> { todo!() } }
