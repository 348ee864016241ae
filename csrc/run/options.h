// What stands on the command line.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "fastmnist/fastmnist.h"

namespace fastmnist::run {

struct Options {
  std::string file;               // of models
  std::vector<std::string> rows;  // files
  std::vector<std::string> models;
  std::string labels;
  std::string output;
  int threads = 0;
  fastmnist_plan plan = FASTMNIST_PLAN_STORED;
  bool invert = false;
  bool time = false;
  bool json = false;
  bool list = false;
  bool help = false;
  bool version = false;
};

// What is wrong where they are not as they should be: "--threads: expected ..., got ...".
Result<Options> parse_options(int count, const char* const* words);

// What --help prints; the first two lines are the usage.
extern const char* const kHelp;

}  // namespace fastmnist::run
