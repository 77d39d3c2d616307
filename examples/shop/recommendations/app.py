"""Recommendations: no database, no events, and nobody waits for it."""

from seawall import Service
from shop.contracts import Sku, Suggestions

service = Service("recommendations", version="1.0.0")

GOES_WITH = {
    "espresso-beans": ["grinder", "scale", "mug"],
    "filter-beans": ["paper-filters", "kettle", "mug"],
    "grinder": ["espresso-beans", "scale"],
    "kettle": ["filter-beans", "scale"],
    "scale": ["grinder", "kettle"],
    "mug": ["espresso-beans", "gold-spoon"],
    "paper-filters": ["filter-beans", "kettle"],
}


@service.get("/recommendations/{sku}")
async def recommend(sku: Sku) -> Suggestions:
    return Suggestions(skus=GOES_WITH.get(sku, ["mug"]))
