"""The smallest stand-in: what `_base` gives, without a vendor."""

from __future__ import annotations

from tests.emulators._base import Answer, Call, StandIn, main, route, script_of


class Toy(StandIn):
    """Jobs by text: ``POST /jobs {"id", "text"}``, ``GET`` and ``DELETE /jobs/ID``."""

    name = "toy"

    def token_of(self, verb: str, call: Call) -> str:
        """Return the job's id: it is the token."""
        return str(call.body["id"] if verb == "create" else call.params["id"])

    @route("POST", "/jobs", verb="create")
    def create(self, call: Call) -> Answer:
        """Make a job; a second one of the same id is a conflict."""
        if self.jobs.look(call.token) is not None:
            return self.refusal(409, "there is one")
        text = call.body["text"]
        made = self.jobs.make(call.token, call.token, script_of(text), {"text": text})
        call.job_id = made.job.id
        return Answer(200, {"id": made.key})

    @route("GET", "/jobs/{id}", verb="get")
    def status(self, call: Call) -> Answer:
        """Look at a job."""
        entry = self.jobs.look(call.token)
        if entry is None:
            return self.refusal(404, "no such job")
        call.job_id = entry.job.id
        return Answer(200, {"state": entry.state, "body": entry.body})

    @route("DELETE", "/jobs/{id}", verb="delete")
    def cancel(self, call: Call) -> Answer:
        """Cancel a job."""
        entry = self.jobs.cancel(call.token)
        if entry is None:
            return self.refusal(404, "no such job")
        call.job_id = entry.job.id
        return Answer(200, {"state": entry.state})


if __name__ == "__main__":
    main(Toy)
