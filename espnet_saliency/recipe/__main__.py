"""`python -m espnet_saliency.recipe`: what run.sh calls."""

import sys

from espnet_saliency.recipe.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
