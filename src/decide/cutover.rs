//! Cutover: what publishes is created in B, and the operator's command points clients there.

use super::facts::present;
use super::{Clock, Command, Condition, Confirmation, Decision, Flow, Next, Wait, records};
use crate::record::Cutover;
use crate::world::{Kind, Object, Side};

impl Decision<'_> {
    pub(super) fn cutover(&self) -> Flow<()> {
        if self.record.cutover == Cutover::Done {
            return Ok(());
        }
        let is_empty = !self.goal.commands.cutover && !self.set.services.iter().any(|service| service.at_cutover);
        if self.record.cutover == Cutover::NotBegun && !is_empty {
            return self.write_cutover(Cutover::Begun, Some(Confirmation::Cutover));
        }
        self.create_services(true)?;
        self.addressed()?;
        if self.goal.commands.cutover {
            self.run(Command::Cutover, Some(Confirmation::Cutover))?;
        }
        self.write_cutover(Cutover::Done, None)
    }

    pub(super) fn write_cutover(&self, cutover: Cutover, needs: Option<Confirmation>) -> Flow<()> {
        let next = self.record.next(|next| next.cutover = cutover);
        Err(records::write(self.plan, self.world, &next, &Side::BOTH, needs)?)
    }

    /// Waits until the load balancers and Ingresses that were carried over have addresses.
    fn addressed(&self) -> Flow<()> {
        for service in &self.set.services {
            let (kind, name) = (service.kind(), service.before.name());
            let needs_address = kind == Kind::Ingress || service.before.text("/spec/type") == Some("LoadBalancer");
            // An address that A's never had is not waited for in B: there may be no such controller.
            if !needs_address || !has_address(&service.before) {
                continue;
            }
            let found = present(self.world, Side::Destination, kind, name)?;
            if !found.is_some_and(has_address) {
                let on = Condition::Address { kind: kind.name(), name: name.to_owned() };
                let clock = Clock::Ready { what: format!("address of {name}") };
                return Err(Next::Wait(Wait { on, clock, poll: Vec::new() }));
            }
        }
        Ok(())
    }
}

fn has_address(object: &Object) -> bool {
    !object.array("/status/loadBalancer/ingress").is_empty()
}
