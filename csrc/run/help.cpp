#include "run/options.h"

namespace fastmnist::run {

const char* const kHelp =
    R"(usage: fastmnist-run MODEL ROWS [ROWS...] [options]
       fastmnist-run MODEL --list

Gives rows to models that fastmnist saved, and prints their classes. No Python is needed.

  MODEL   a file of fm.save
  ROWS    one file of rows: IDX (as MNIST's) or .npy, uint8 pixels or floats, also as .gz;
          or pictures, a digit each: PGM, or PNG, of the size that the model was trained on.
          Pixels are light on dark, as MNIST's digits; --invert is for the others.

which models
  --model NAME     which to run, of several; again, or NAME,NAME, for more of them beside each
                   other; all: every one
  --list           print what models there are, their inputs and outputs, and run none
  --plan HOW       how kernels are chosen: stored (default: by times measured before, else by
                   a rule), fixed (by the rule), measured (measured now); answers are the same
  --threads N      1 to 1024; else FASTMNIST_NUM_THREADS, else the CPUs there are

what comes out
  --labels FILE    integers, IDX or .npy: print how many of the classes are right
  --output FILE    write the class of each row, one a line; -: to stdout, and nothing else
  --time           print latencies of one row and of all rows: p50, p90, p99, models in turns
  --json           print one JSON object (docs/fastmnist-run.md has its fields)
  --invert         take pixels for 255 - pixel: pictures that are dark on light

  -h, --help       print this
  --version        print the versions of program and instruction set

examples
  fastmnist-run digits.safetensors three.png seven.png --model int8
  fastmnist-run digits.safetensors t10k-images-idx3-ubyte.gz --model all
      --labels t10k-labels-idx1-ubyte.gz --time

exit status: 0; 1: a file, or what is in it, is not as it should be; 2: the arguments are not
)";

}  // namespace fastmnist::run
