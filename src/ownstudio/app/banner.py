"""What `serve` prints once it answers: where to call it, with which key, and one line to paste."""

from rich.console import Console
from rich.text import Text

from ownstudio.service.studio import Studio
from ownstudio.settings import Settings
from ownstudio.store.directory import DataDirectory

BUNDLED = "bundled"


def print_banner(studio: Studio, base: str, settings: Settings, directory: DataDirectory) -> None:
    """`base` is such as http://127.0.0.1:8000; the directory holds the first key, if it still lies there."""
    key_file = directory.first_key
    # Paths and addresses may hold what Rich would read as its own signs.
    console = Console(stderr=False, soft_wrap=True, highlight=False, markup=False, emoji=False)
    line = console.print
    line(Text(f"Ownstudio answers on {base}", style="bold green"))
    line(f"  OpenAI base URL   {base}/compatible-mode/v1   (also {base}/v1)")
    line(f"  DashScope         {base}/api/v1")
    if settings.regions != ("local",):
        line(f"  Regions           {', '.join(settings.regions)}")
    for name, deployment in studio.deployments.items():
        answers = ", ".join(studio.names_of(name)[:4])
        more = len(studio.names_of(name)) - 4
        line(
            f"  {name}: {deployment.slots.slots} slots of {deployment.context} tokens, answers {answers}"
            + (f" and {more} more" if more > 0 else "")
        )
        if settings.deployments[name].weights == BUNDLED:
            line(
                "    a very small model, for trying clients; for real answers: ownstudio model pull"
            )
    for name, fault in studio.faults.items():
        line(Text(f"  {name} cannot answer: {fault}", style="bold red"))
    if key_file.exists():
        line(f"  First key         {key_file}")
        key = f"$(cat {key_file})"
    else:
        line(f"  Keys              ownstudio key create --data {settings.data}")
        key = "$DASHSCOPE_API_KEY"
    if settings.admin.enabled:
        line(f"  Admin API         {base}/admin/v1   (token in {directory.admin_token})")
    line("Try it:")
    line(
        f"  curl {base}/compatible-mode/v1/chat/completions"
        f' -H "Authorization: Bearer {key}" -H "Content-Type: application/json"'
        """ -d '{"model": "qwen-plus", "messages": [{"role": "user", "content": "Who are you?"}]}'"""
    )
