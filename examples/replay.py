"""A change to an agent, tried on what was recorded: the model is not called again.

A writer asks a model for a title of each article, and publishes it. The model answers differently
each time; `effect` records its answers. Replayed, the same writer says the same. A writer whose
titles end in a full stop differs in each of them, and a writer that asks the model for something
else finds no answer in the record.

Prints:
    recorded: 3 titles, the model was called 3 times
    replayed: 3 titles, same True, the model was called 3 times
    changed: same False, $: "Title 1 of rain" -> "Title 1 of rain."
    asks more: /agents/writer asked for $effect.model.check, which was not recorded
"""

import asyncio
from collections.abc import Awaitable, Callable

from hms_bus import Bus, effect
from hms_bus.errors import UnrecordedError
from hms_bus.replay import rerun

prompts: list[str] = []


async def complete(prompt: str) -> str:
    """Stand in for a model: never twice the same answer."""
    prompts.append(prompt)
    return f"Title {len(prompts)} of {prompt}"


async def plain(article: str) -> str:
    """Ask the model for a title."""
    return await effect("model.complete", complete, article)


async def with_full_stop(article: str) -> str:
    """End each title in a full stop."""
    return await effect("model.complete", complete, article) + "."


async def checked(article: str) -> str:
    """Let the model check its own title."""
    return await effect("model.check", complete, await plain(article))


def writer(url: str, write: Callable[[str], Awaitable[str]], log: str | None = None) -> Bus:
    """Publish a title for each article."""
    bus = Bus(url, log=log, source="/agents/writer")

    @bus.subscribe("article.new")
    async def title(article: str) -> None:
        await bus.publish("article.title", await write(article))

    return bus


async def main() -> None:
    """Record three articles, then replay them into three writers."""
    desk = Bus("direct://desk", log="sqlite:run.db", source="/agents/desk")
    async with writer("direct://desk", plain, "sqlite:run.db"), desk:
        for article in ("rain", "snow", "sun"):
            await desk.publish("article.new", article)
    print(f"recorded: 3 titles, the model was called {len(prompts)} times")

    same = await rerun("run.db", lambda url: writer(url, plain), effects="strict")
    is_same = same.compare().is_same
    titles = len(same.outputs)
    print(f"replayed: {titles} titles, same {is_same}, the model was called {len(prompts)} times")

    changed = await rerun("run.db", lambda url: writer(url, with_full_stop), effects="strict")
    comparison = changed.compare()
    change = comparison.divergences[0].changes[0]
    texts = f'{change.path}: "{change.left}" -> "{change.right}"'
    print(f"changed: same {comparison.is_same}, {texts}")

    try:
        await rerun("run.db", lambda url: writer(url, checked), effects="strict")
    except UnrecordedError as error:
        print(f"asks more: {error.agent} asked for {error.what}, which was not recorded")


if __name__ == "__main__":
    asyncio.run(main())
