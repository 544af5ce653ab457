"""Which boxes are right, as COCO's evaluation matched them at IoU 0.5: curves and resampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.arange(1, 100) / 100
_RECALLS = np.linspace(0, 1, 101)  # at which COCO takes the precision


@dataclass(frozen=True)
class Matches:
    """The boxes found in all images, best score first, and the objects there are.

    Boxes and objects of crowds, which count neither way, are left out.

    Attributes:
        image: Place of the image of each box, `(d,)`.
        label: Its class from 0.
        score: Its score.
        right: Whether it is matched with an object of its class, IoU 0.5 or more.
        objects: How many there are by image and class, `(images, classes)`.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    right: np.ndarray
    objects: np.ndarray

    @classmethod
    def of(cls, evaluation) -> Matches:
        """From what `coco_evaluation` returns, of images and classes with rising numbers."""
        images, classes = len(evaluation.params.imgIds), len(evaluation.params.catIds)
        sizes, all_sizes, loosest = len(evaluation.params.areaRng), 0, 0
        boxes, objects = [], np.zeros((images, classes), int)
        for label in range(classes):
            start = (label * sizes + all_sizes) * images
            for image, each in enumerate(evaluation.evalImgs[start : start + images]):
                if each is None:
                    continue
                counted = ~np.asarray(each["dtIgnore"][loosest], bool)
                objects[image, label] = (~np.asarray(each["gtIgnore"], bool)).sum()
                right = np.asarray(each["dtMatches"][loosest])[counted] > 0
                scores = np.asarray(each["dtScores"], float)[counted]
                boxes += [(image, label, *pair) for pair in zip(scores, right, strict=True)]
        found = np.array(boxes, float).reshape(-1, 4)
        found = found[np.argsort(-found[:, 2], kind="mergesort")]
        image, label = found[:, :2].astype(int).T
        return cls(image, label, found[:, 2], found[:, 3] > 0, objects)

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision at every score, of all classes together."""
        right = np.cumsum(self.right)
        return right / max(1, self.objects.sum()), right / np.arange(1, len(right) + 1)

    def by_threshold(self) -> dict[str, np.ndarray]:
        """`precision`, `recall` and `f1` at each of `THRESHOLDS`; NaN where undefined."""
        rising = self.score[::-1]
        found = len(rising) - np.searchsorted(rising, THRESHOLDS)
        right = np.concatenate([[0], np.cumsum(self.right)])[found]
        objects = self.objects.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "precision": right / found,
                "recall": right / np.full(len(right), objects),
                "f1": 2 * right / (found + objects),
            }

    def errors(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Objects missed and false boxes in each image, at a score threshold."""
        shown, images = self.score >= threshold, len(self.objects)
        right = np.bincount(self.image[shown & self.right], minlength=images)
        return self.objects.sum(1) - right, np.bincount(
            self.image[shown & ~self.right], minlength=images
        )

    def map50(self, weights: np.ndarray) -> np.ndarray:
        """COCO's mAP at IoU 0.5 where each image counts a number of times.

        Args:
            weights: `(m, images)`, 0 or more.

        Returns:
            `(m,)`, the mean over the classes of which there are objects; NaN where there are none.
        """
        labels = np.flatnonzero(self.objects.any(0))
        each = np.array([self._precision(label, weights) for label in labels])
        known = np.isfinite(each).reshape(len(labels), len(weights))
        with np.errstate(invalid="ignore"):
            return np.where(known, each, 0).sum(0) / known.sum(0)

    def _precision(self, label, weights) -> np.ndarray:
        objects = weights @ self.objects[:, label]
        found = self.label == label
        counts = weights[:, self.image[found]]
        right = np.cumsum(counts * self.right[found], 1)
        precision = right / np.maximum(np.cumsum(counts, 1), np.spacing(1))
        # The best precision at this recall or a higher one.
        precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
        precision = np.pad(precision, [(0, 0), (0, 1)])  # 0 where no recall is so high
        recall = right / np.maximum(objects, 1)[:, None]
        means = [
            row[np.searchsorted(places, _RECALLS)].mean()
            for row, places in zip(precision, recall, strict=True)
        ]
        return np.where(objects > 0, means, np.nan)
