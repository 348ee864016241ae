// What was found out, and how it is printed.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "run/models.h"
#include "run/timing.h"

namespace fastmnist::run {

// Of so many rows the class of each is printed.
inline constexpr std::size_t kFewRows = 20;

struct Answers {
  const Model* model = nullptr;
  Memory<std::int64_t> classes;                // [rows]
  std::map<std::int64_t, std::size_t> counts;  // rows of each class that occurs
  std::size_t correct = 0;                     // where there are labels
  std::size_t differ = 0;                      // rows of another class than the first model's
  std::vector<Latency> latency;                // where it was asked for
};

struct Report {
  std::string file;
  std::string labels;  // the file; "" without
  const Rows* rows = nullptr;
  std::vector<Answers> answers;

  double accuracy(const Answers& of) const {
    return static_cast<double>(of.correct) / static_cast<double>(rows->count);
  }
};

std::string text_of(const Report& report);
std::string json_of(const Report& report);

// The models of a file; of one that cannot be loaded the name, and why.
struct Listed {
  std::string name;
  Result<Model> model;
};
std::string text_of_list(std::span<const Listed> models);
std::string json_of_list(const std::string& file, std::span<const Listed> models);

}  // namespace fastmnist::run
