"""Builds deployments from settings: weights found and checked, engine sized, tokenizer and template read.

A deployment that cannot be built is a fault, not the end of the server: the others answer, and its own models
get 503 while `/health` and the log name what is wrong.
"""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ownstudio.catalog import DeploymentRoutes, Thinking
from ownstudio.core.request import Sampling
from ownstudio.engines import weights
from ownstudio.engines.base import EngineUnavailable
from ownstudio.engines.gguf import GgufFile, WeightsError, read_gguf
from ownstudio.engines.llamacpp import EngineBounds, LlamaCppEngine
from ownstudio.engines.sizing import Sizing, size
from ownstudio.engines.supervisor import SupervisorBounds
from ownstudio.engines.worker import WorkerOptions
from ownstudio.qwen.family import ThinkingKind, family_of
from ownstudio.qwen.render import PromptRenderer
from ownstudio.qwen.template import ChatTemplate, TemplateError
from ownstudio.qwen.tokenizer import Tokenizer, VocabularyError
from ownstudio.service.deployment import Deployment
from ownstudio.service.slots import SlotQueue
from ownstudio.settings import Deployment as DeploymentSettings
from ownstudio.settings.machine import engine_threads, memory_bytes

logger = logging.getLogger(__name__)

# What models may be asked that no catalogue describes: all that their weights can do, and no more unasked.
_WHILE_THINKING = Sampling(temperature=0.6, top_p=0.95, top_k=20)
THINKING_OF_OWN_NAMES = {
    ThinkingKind.NONE: Thinking(),
    ThinkingKind.HYBRID: Thinking("hybrid", prompt_switch=True, defaults=_WHILE_THINKING),
    ThinkingKind.ALWAYS: Thinking("always", on=True, defaults=_WHILE_THINKING),
}


@dataclass(frozen=True)
class Built:
    """A deployment, or the fault that kept it from being one; and the names that it answers either way.

    `starting` is done once an engine that starts with the server has started or failed to.
    """

    routes: DeploymentRoutes
    deployment: Deployment | None = None
    fault: str = ""
    starting: asyncio.Future[None] | None = None


async def build_deployment(
    name: str, settings: DeploymentSettings, data: Path, runtime: Path
) -> Built:
    """Never raises for what the operator's files hold: the fault is in the result."""
    routes = DeploymentRoutes(name=name, routes=settings.routes, context=1, created=0)
    engine = starting = None
    try:
        path = weights.resolve_weights(settings.weights, data)
        gguf = await asyncio.to_thread(read_gguf, path)
        if gguf.chat_template is None:
            raise WeightsError(path, "it has no chat template")
        sizing = _sizing(gguf, settings)
        engine = _engine(name, path, settings, sizing, runtime)
        # The worker loads while the vocabulary is read here: together they are most of a server's start.
        starting = (
            asyncio.ensure_future(_start(name, engine)) if settings.start == "eager" else None
        )
        tokenizer = await asyncio.to_thread(Tokenizer.from_vocabulary, gguf.vocabulary)
        template = ChatTemplate(gguf.chat_template, clock=datetime.now)
    except (weights.WeightsError, VocabularyError, TemplateError, ValueError) as fault:
        logger.error("%s cannot answer: %s", name, fault)
        if engine is not None:
            await engine.close()
        return Built(routes, fault=str(fault), starting=starting)
    deployment = Deployment(
        name=name,
        engine=engine,
        renderer=PromptRenderer(template, tokenizer),
        tokenizer=tokenizer,
        family=family_of(gguf.chat_template, tokenizer.special_ids),
        context=sizing.context,
        slots=SlotQueue(sizing.slots, settings.queue_max, settings.queue_wait_s),
    )
    routes = DeploymentRoutes(
        name=name,
        routes=settings.routes,
        context=sizing.context,
        created=int(path.stat().st_mtime),
        thinking=THINKING_OF_OWN_NAMES[deployment.family.thinking],
    )
    return Built(routes, deployment, starting=starting)


async def _start(name: str, engine: LlamaCppEngine) -> None:
    try:
        await engine.ready()
    except EngineUnavailable as fault:
        logger.error("%s cannot answer: %s", name, fault)


def _sizing(gguf: GgufFile, settings: DeploymentSettings) -> Sizing:
    return size(
        context_asked=settings.context,
        slots_asked=settings.slots,
        model_context=gguf.context_length,
        kv_bytes_per_token=gguf.kv_bytes_per_token,
        weights_bytes=sum(shard.stat().st_size for shard in gguf.shards),
        memory_bytes=memory_bytes(),
    )


def _engine(
    name: str, path: Path, settings: DeploymentSettings, sizing: Sizing, runtime: Path
) -> LlamaCppEngine:
    return LlamaCppEngine(
        WorkerOptions(
            model_path=str(path),
            context=sizing.context,
            slots=sizing.slots,
            threads=engine_threads(settings.threads),
            cache_ram_mib=settings.cache_ram_mib,
        ),
        runtime,
        name=name,
        bounds=EngineBounds(
            first_chunk_s=settings.first_token_deadline_s, gap_s=settings.silence_deadline_s
        ),
        supervision=SupervisorBounds(start_s=settings.start_deadline_s),
    )
