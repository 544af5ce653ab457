"""`python -m keras_parc` is the command `keras-parc`."""

from keras_parc.cli.main import main

if __name__ == "__main__":
    main()
