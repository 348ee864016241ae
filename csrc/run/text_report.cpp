#include <cstdio>
#include <set>

#include "run/report.h"
#include "run/table.h"

namespace fastmnist::run {
namespace {

std::string decimals(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// Three digits that count: "0.95", "12.3", "1,556".
std::string microseconds(double value) {
  if (value < 9.995) return decimals(value, 2);
  if (value < 99.95) return decimals(value, 1);
  return grouped(static_cast<std::size_t>(value + 0.5));
}

std::string shape_text(const std::vector<std::size_t>& shape, std::size_t size) {
  return shape.empty() ? std::to_string(size) : text_of(std::span<const std::size_t>(shape));
}

std::string heading(const Report& report) {
  const Rows& rows = *report.rows;
  const char* isa = fastmnist_isa();
  const int threads = fastmnist_num_threads();
  return report.file + ": " + grouped(rows.count) + (rows.count == 1 ? " row of " : " rows of ") +
         shape_text(rows.shape, rows.size) + (rows.are_pixels ? " pixels, " : " floats, ") +
         (isa != nullptr ? isa : "?") + ", " + std::to_string(threads) +
         (threads == 1 ? " thread" : " threads") + "\n";
}

std::string models_text(const Report& report) {
  const bool several = report.answers.size() > 1, labels = !report.labels.empty();
  if (!several && !labels) return "";
  Table table(1);
  std::vector<std::string> titles = {"model", "KB"};
  if (labels) titles.push_back("accuracy");
  if (several) titles.push_back("other classes than " + report.answers[0].model->name());
  table.add(titles);
  for (const Answers& of : report.answers) {
    const double bytes = static_cast<double>(fastmnist_bytes(of.model->get()));
    std::vector<std::string> row = {of.model->name(), decimals(bytes / 1000, 1)};
    if (labels)
      row.push_back(decimals(100 * report.accuracy(of), 2) + " % of " +
                    grouped(report.rows->count) + " (" + grouped(of.correct) + ")");
    if (several) row.push_back(&of == report.answers.data() ? "–" : grouped(of.differ));
    table.add(row);
  }
  return "\n" + table.text();
}

std::string latency_text(const Report& report) {
  if (report.answers[0].latency.empty()) return "";
  Table table(1);
  table.add({"µs a call", "rows", "p50", "p90", "p99", "calls", "rows/s"});
  for (std::size_t i = 0; i < report.answers[0].latency.size(); ++i)
    for (const Answers& of : report.answers) {
      const Latency& latency = of.latency[i];
      table.add({of.model->name(), grouped(latency.rows), microseconds(latency.p50),
                 microseconds(latency.p90), microseconds(latency.p99), grouped(latency.calls),
                 grouped(static_cast<std::size_t>(latency.rows_per_second()))});
    }
  return "\n" + table.text();
}

// The class of each row where they are few, else how many rows there are of each class.
std::string classes_text(const Report& report) {
  const Rows& rows = *report.rows;
  const bool few = rows.count <= kFewRows;
  Table table(1);
  std::vector<std::string> titles = {few ? (rows.are_pictures ? "picture" : "row") : "class"};
  for (const Answers& of : report.answers) titles.push_back(of.model->name());
  table.add(titles);
  for (std::size_t row = 0; few && row < rows.count; ++row) {
    std::vector<std::string> line = {rows.are_pictures ? rows.files[row] : std::to_string(row)};
    for (const Answers& of : report.answers) line.push_back(std::to_string(of.classes[row]));
    table.add(line);
  }
  std::set<std::int64_t> classes;
  for (const Answers& of : report.answers)
    for (const auto& [number, count] : of.counts) classes.insert(number);
  for (const std::int64_t number : few ? std::set<std::int64_t>() : classes) {
    std::vector<std::string> line = {std::to_string(number)};
    for (const Answers& of : report.answers) {
      const auto found = of.counts.find(number);
      line.push_back(grouped(found == of.counts.end() ? 0 : found->second));
    }
    table.add(line);
  }
  return "\n" + table.text();
}

}  // namespace

std::string text_of(const Report& report) {
  return heading(report) + models_text(report) + latency_text(report) + classes_text(report);
}

std::string text_of_list(std::span<const Listed> models) {
  Table table(5);
  table.add({"model", "input", "pixels", "output", "KB"});
  for (const Listed& listed : models) {
    if (!listed.model.ok()) {
      table.add({listed.name, "cannot be run: " + listed.model.status().text()});
      continue;
    }
    const Model& model = *listed.model;
    const fastmnist_model* const c = model.get();
    std::string inputs, outputs, pixels;
    for (std::size_t i = 0; i < fastmnist_inputs(c); ++i) {
      inputs += (i > 0 ? ", " : "") + shape_text(model.input_shape(i), fastmnist_input_size(c, i));
      pixels += std::string(i > 0 ? ", " : "") + (fastmnist_takes_pixels(c, i) != 0 ? "yes" : "no");
    }
    for (std::size_t i = 0; i < fastmnist_outputs(c); ++i)
      outputs += (i > 0 ? ", " : "") +
                 shape_text(model.output_shape(i), fastmnist_output_size(c, i)) +
                 (fastmnist_gives_indexes(c, i) != 0 ? " (indexes)" : "");
    table.add({listed.name, inputs, pixels, outputs,
               decimals(static_cast<double>(fastmnist_bytes(c)) / 1000, 1)});
  }
  return table.text();
}

}  // namespace fastmnist::run
