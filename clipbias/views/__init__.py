"""Views: the parts of an image set that numbers are measured on, and random ones to hold them against."""

from clipbias.views.card import effective_number, slice_card, slice_cards
from clipbias.views.embedding import kmeans_views, text_neighbours
from clipbias.views.metadata import by_level, by_metadata, by_predicate, global_view
from clipbias.views.null import matched_subsets, random_subsets
from clipbias.views.spec import FORMS, make, needs_embeddings
from clipbias.views.view import View, Views

__all__ = [
    "FORMS", "View", "Views", "by_level", "by_metadata", "by_predicate", "effective_number", "global_view",
    "kmeans_views", "make", "matched_subsets", "needs_embeddings", "random_subsets", "slice_card", "slice_cards",
    "text_neighbours",
]  # fmt: skip
