"""
In a pipeline of scikit-learn, with a grid search
=================================================

Can the parameters of a dictionary be chosen like those of any other step of scikit-learn?
:class:`calepin.DictionaryLearner` follows scikit-learn's conventions: it can be cloned, put into a
pipeline, and searched over.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from calepin import DictionaryLearner
from calepin.datasets import load_digits

# %%
# Handwritten digits; a quarter of them is kept for the final test.

digits, labels = load_digits()
X_train, X_test, y_train, y_test = train_test_split(digits, labels, random_state=0, stratify=labels)

# %%
# The codes are the features of a logistic regression. Two parameters of the dictionary are searched by
# cross-validation: how many atoms, and how sparse the codes are.

pipeline = make_pipeline(
    DictionaryLearner(center=True, max_iter=5, random_state=0),
    StandardScaler(),
    LogisticRegression(C=0.1, max_iter=300),
)
grid = {
    "dictionarylearner__n_components": [16, 64, 128],
    "dictionarylearner__alpha": [0.1, 0.5, 1.0],
}
search = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)

# %%
# The accuracy of each combination:

scores = search.cv_results_["mean_test_score"].reshape(3, 3)  # alpha, n_components
figure, axes = plt.subplots(figsize=(6, 4.4), layout="constrained")
shown = axes.imshow(100 * scores, cmap="cividis")
for i, row in enumerate(scores):
    for j, score in enumerate(row):
        dark = score < (scores.min() + scores.max()) / 2
        axes.text(j, i, f"{score:.1%}", ha="center", va="center", color="white" if dark else "black")
axes.set_xticks(range(3), grid["dictionarylearner__n_components"])
axes.set_yticks(range(3), grid["dictionarylearner__alpha"])
axes.set(xlabel="n_components", ylabel="alpha", title="accuracy in cross-validation")
figure.colorbar(shown, label="accuracy in %")

# %%
# Features have names, as scikit-learn's ``set_output`` needs them.

named = DictionaryLearner(16, alpha=0.1, center=True, max_iter=2, random_state=0).fit(X_train)
print(list(named.get_feature_names_out()[:3]))

# %%
# What was learned
# ----------------

plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(X_train, y_train)
by_codes, by_pixels = search.score(X_test, y_test), plain.score(X_test, y_test)
print(f"best: {search.best_params_}")
print(f"accuracy on the test digits: codes {by_codes:.1%}, pixels {by_pixels:.1%}")

# %%
# The search treats the dictionary as any other transformer. For this task, 16 atoms are too few, and with
# more of them the best alpha is neither the smallest nor the largest. A linear classifier of codes is more
# accurate than one of pixels, because codes are a nonlinear function of the sample.

assert np.all(scores[:, 0] < scores[:, 1:].min(axis=1))
assert search.best_params_["dictionarylearner__alpha"] == 0.5
assert by_codes > by_pixels
