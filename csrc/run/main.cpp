// fastmnist-run: rows in, classes out. Read it from the end.
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "run/models.h"
#include "run/options.h"
#include "run/output.h"
#include "run/report.h"
#include "run/rows.h"
#include "run/timing.h"

namespace fastmnist::run {
namespace {

enum Exit { kDone = 0, kWrongFile = 1, kWrongArguments = 2 };

int fail(int status, const Status& why) {
  std::fprintf(stderr, "fastmnist-run: %s\n", why.text().c_str());
  return status;
}

// The files that are read.
std::vector<std::string> inputs_of(const Options& options) {
  std::vector<std::string> files = options.rows;
  files.push_back(options.file);
  files.push_back(options.labels);
  return files;
}

int finish(const Status& status) { return status.ok() ? kDone : fail(kWrongFile, status); }

Status classify(const Model& model, const Rows& rows, const Memory<std::int64_t>& labels,
                std::vector<Answers>& all) {
  if (Status bad = model.check(rows); !bad.ok()) return bad;
  Answers answers;
  answers.model = &model;
  Result<Memory<std::int64_t>> classes = Memory<std::int64_t>::of(rows.count);
  if (!classes.ok()) return std::move(classes).status();
  answers.classes = *std::move(classes);
  if (Status bad = model.classify(rows, 0, rows.count, answers.classes.data()); !bad.ok())
    return bad;
  for (std::size_t i = 0; i < rows.count; ++i) {
    const std::int64_t number = answers.classes[i];
    ++answers.counts[number];
    answers.correct += labels.size() > 0 && labels[i] == number;
    answers.differ += !all.empty() && all[0].classes[i] != number;
  }
  all.push_back(std::move(answers));
  return {};
}

std::string lines_of(const Memory<std::int64_t>& classes) {
  std::string text;
  for (const std::int64_t number : classes.values()) text += std::to_string(number) + "\n";
  return text;
}

int list(const Options& options, const ModelFile& file) {
  std::vector<Listed> models;
  for (std::string& name : file.names()) {
    // The rule, as nothing runs.
    Result<Model> model = file.load(name, FASTMNIST_PLAN_FIXED);
    models.push_back({std::move(name), std::move(model)});
  }
  return finish(print(options.json ? json_of_list(options.file, models) : text_of_list(models)));
}

int run_models(const Options& options, const std::vector<Model>& models) {
  Result<Rows> rows = read_rows(options.rows, options.invert);
  if (!rows.ok()) return fail(kWrongFile, rows.status());
  if (look_dark_on_light(*rows))
    std::fprintf(stderr,
                 "fastmnist-run: warning: the pictures look dark on light; MNIST's digits are "
                 "light on dark: --invert\n");
  Memory<std::int64_t> labels;
  if (!options.labels.empty()) {
    Result<Memory<std::int64_t>> read = read_labels(options.labels, rows->count);
    if (!read.ok()) return fail(kWrongFile, read.status());
    labels = *std::move(read);
  }
  Report report{options.file, options.labels, &*rows, {}};
  for (const Model& model : models)
    if (Status bad = classify(model, *rows, labels, report.answers); !bad.ok())
      return fail(kWrongFile, bad);
  if (options.time) {
    Result<std::vector<std::vector<Latency>>> latencies = time_models(models, *rows);
    if (!latencies.ok()) return fail(kWrongFile, latencies.status());
    for (std::size_t i = 0; i < models.size(); ++i) report.answers[i].latency = (*latencies)[i];
  }
  if (!options.output.empty()) {
    Status bad = write_output(options.output, lines_of(report.answers[0].classes));
    if (!bad.ok() || options.output == "-") return finish(bad);
  }
  return finish(print(options.json ? json_of(report) : text_of(report)));
}

int run(const Options& options) {
  if (options.help) return finish(print(kHelp));
  const char* const isa = fastmnist_isa();  // nullptr: FASTMNIST_ISA is no name
  if (isa == nullptr) return fail(kWrongArguments, Status::invalid(fastmnist_last_error()));
  if (options.version)
    return finish(print(std::string("fastmnist-run ") + fastmnist_version() + ", " + isa + "\n"));
  if (options.threads != 0 && fastmnist_set_num_threads(options.threads) != FASTMNIST_OK)
    return fail(kWrongArguments, Status::invalid(fastmnist_last_error()));
  if (!options.output.empty())
    for (const std::string& read : inputs_of(options))
      if (are_one_file(options.output, read))
        return fail(kWrongArguments, Status::invalid("--output", "a file of its own",
                                                     "'" + read + "', which is read"));
  const Result<ModelFile> file = ModelFile::open(options.file);
  if (!file.ok()) return fail(kWrongFile, file.status());
  if (options.list) return list(options, *file);
  const Result<std::vector<std::string>> names = file->choose(options.models);
  if (!names.ok()) return fail(kWrongArguments, names.status());
  if (!options.output.empty() && names->size() > 1)
    return fail(kWrongArguments, Status::invalid("--output", "one model, by --model",
                                                 std::to_string(names->size())));
  std::vector<Model> models;
  for (const std::string& name : *names) {
    Result<Model> model = file->load(name, options.plan);
    if (!model.ok())
      return fail(kWrongFile, Status::invalid(options.file + ": " + model.status().text()));
    models.push_back(*std::move(model));
  }
  return run_models(options, models);
}

}  // namespace
}  // namespace fastmnist::run

int main(int count, char** words) {
  using namespace fastmnist::run;
  const fastmnist::Result<Options> options = parse_options(count - 1, words + 1);
  if (options.ok()) return run(*options);
  const std::string usage(kHelp, std::string(kHelp).find("\n\n") + 1);
  std::fputs(usage.c_str(), stderr);
  return fail(kWrongArguments, options.status());
}
