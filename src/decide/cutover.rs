//! Cutover: what publishes is created in B, and the operator's command points clients there.

use super::facts::present;
use super::{Clock, Command, Condition, Confirmation, Decision, Flow, Next, Stop, Wait, records};
use crate::record::Cutover;
use crate::world::{Kind, Object, Read, Side};

impl Decision<'_> {
    pub(super) fn cutover(&self) -> Flow<()> {
        let has_command = self.goal.commands.cutover;
        // A command that is given after a cutover without one is run now.
        let is_new_command = has_command && !self.record.cutover_command;
        if self.record.cutover == Cutover::Done && !is_new_command {
            return Ok(());
        }
        let is_empty = !has_command && !self.set.services.iter().any(|service| service.at_cutover);
        if is_new_command || (self.record.cutover == Cutover::NotBegun && !is_empty) {
            return self.write_cutover(Cutover::Begun, Some(Confirmation::Cutover));
        }
        if self.record.cutover_command && !has_command {
            // What it did or did not do to clients is its own to finish.
            return Err(Next::Stop(Stop::CutoverCommandMissing));
        }
        self.create_services(true)?;
        self.addressed()?;
        if has_command {
            self.run(Command::Cutover, Some(Confirmation::Cutover))?;
        }
        self.write_cutover(Cutover::Done, None)
    }

    pub(super) fn write_cutover(&self, cutover: Cutover, needs: Option<Confirmation>) -> Flow<()> {
        let next = self.record.next(|next| {
            next.cutover = cutover;
            next.cutover_command = cutover != Cutover::NotBegun && (next.cutover_command || self.goal.commands.cutover);
        });
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
                let poll = vec![Read::Get(Side::Destination, kind, name.to_owned())];
                return Err(Next::Wait(Wait { on, clock, poll }));
            }
        }
        Ok(())
    }
}

fn has_address(object: &Object) -> bool {
    !object.array("/status/loadBalancer/ingress").is_empty()
}
