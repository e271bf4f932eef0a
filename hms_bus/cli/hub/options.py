"""The argument that names a hub."""

import click

hub_argument = click.argument("name", required=False, metavar="[NAME|URL|PATH]")
