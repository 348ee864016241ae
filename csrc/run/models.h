// Models of a file, by the public C functions (include/fastmnist/fastmnist.h) alone.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "fastmnist/fastmnist.h"
#include "run/rows.h"

namespace fastmnist::run {

class Model {
 public:
  Model() = default;
  Model(std::string name, fastmnist_model* model) : name_(std::move(name)), model_(model) {}

  const std::string& name() const { return name_; }
  const fastmnist_model* get() const { return model_.get(); }
  std::vector<std::size_t> input_shape(std::size_t i) const;
  std::vector<std::size_t> output_shape(std::size_t i) const;

  // Whether rows of that size and shape are what it takes; advice where they are not.
  Status check(const Rows& rows) const;

  // The classes of `count` rows from `first` on.
  Status classify(const Rows& rows, std::size_t first, std::size_t count,
                  std::int64_t* classes) const;

 private:
  struct Free {
    void operator()(fastmnist_model* model) const { fastmnist_free(model); }
  };
  std::string name_;
  std::unique_ptr<fastmnist_model, Free> model_;
};

class ModelFile {
 public:
  static Result<ModelFile> open(const std::string& path);

  std::vector<std::string> names() const;
  // Those asked for, each once: names, lists of names with commas, or "all"; without any the only
  // one there is.
  Result<std::vector<std::string>> choose(const std::vector<std::string>& asked) const;
  Result<Model> load(const std::string& name, fastmnist_plan plan) const;

 private:
  struct Close {
    void operator()(fastmnist_file* file) const { fastmnist_close(file); }
  };
  Bytes bytes_;                                  // where the library cannot read files
  std::unique_ptr<fastmnist_file, Close> file_;  // looks at the bytes, goes before them
};

// What the library said last.
Status last_error(fastmnist_status status, const std::string& where);

}  // namespace fastmnist::run
