"""Package metadata, read from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(root / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
extras = {name: cfg[f"{name}_requirements"].split()
          for name in ("data", "baselines", "search", "scale", "dev")}

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=(root / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    url=cfg["git_url"],
    license=cfg["license"].upper(),
    keywords=cfg["keywords"],
    packages=find_packages(include=[cfg["lib_name"], cfg["lib_name"] + ".*"]),
    python_requires=">=" + cfg["min_python"],
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split("\n"),
                  "nbdev": [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]},
    zip_safe=False,
)
