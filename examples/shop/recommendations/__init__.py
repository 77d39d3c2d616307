"""What goes well with a product. It may die: nothing depends on it but a nicer page."""

from shop.recommendations.app import service as service
