"""Embeddings: computed once, kept by content, L2-normalised on return."""

from clipbias.embedding.cache import CacheStats, CacheWarning, EmbeddingCache
from clipbias.embedding.encode import ImageEmbeddings, embed_images, embed_texts

__all__ = ["CacheStats", "CacheWarning", "EmbeddingCache", "ImageEmbeddings", "embed_images", "embed_texts"]
