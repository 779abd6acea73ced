"""What a request to a module costs: the handler that is measured."""

from ksi.events import event_handler


@event_handler("bench:python")
async def letter(data):
    return {**data, "number": data["number"] + 1}
