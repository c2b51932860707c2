#include <capstan/client/cli/job-format.h>

#include <algorithm>

#include <capstan/base/text.h>
#include <capstan/client/cli/entry-format.h>

namespace capstan::cli {

namespace {

void writeTime(JsonWriter& json, std::string_view key, int64_t time) {
  json.key(key);
  if (time == 0) {
    json.null();
  } else {
    json.value(formatTime(time));
  }
}

void writeText(JsonWriter& json, std::string_view key, std::string_view text) {
  json.key(key);
  if (text.empty()) {
    json.null();
  } else {
    json.value(text);
  }
}

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

std::string sizeOf(const client::ValueInfo& info) {
  std::string elements =
      std::to_string(info.count) + " " + std::string(name(info.type)) + (info.count == 1 ? " element" : " elements");
  return info.single ? "one " + std::string(name(info.type)) : elements + ", " + formatSize(info.bytes);
}

}  // namespace

void writeJob(JsonWriter& json, const client::JobStatus& job) {
  json.beginObject().field("id", job.id).field("state", name(job.state)).field("kind", name(job.kind));
  writeText(json, "label", job.label);
  writeTime(json, "submitted", job.submitted);
  writeTime(json, "started", job.started);
  writeTime(json, "ended", job.ended);
  writeTime(json, "expires", job.expires);
  json.key("progress").beginObject().field("done", job.workDone).key("total");
  if (job.workTotal == 0) {
    json.null();
  } else {
    json.value(job.workTotal);
  }
  json.endObject().key("error");
  if (job.error) {
    json.beginObject().field("code", kebabCase(job.error->code)).field("message", job.error->message).endObject();
  } else {
    json.null();
  }
  writeText(json, "output", job.output);
  json.key("result");
  if (job.result) {
    json.beginObject()
        .field("type", name(job.result->type))
        .field("count", job.result->count)
        .field("bytes", job.result->bytes)
        .endObject();
  } else {
    json.null();
  }
  json.field("starts", job.starts).endObject();
}

std::string jobAsJson(const client::JobStatus& job) {
  JsonWriter json;
  writeJob(json, job);
  return json.text();
}

std::string stateOf(const client::JobStatus& job) {
  std::string text(name(job.state));
  if (job.state != client::JobState::RUNNING || job.workTotal == 0) return text;
  double share = std::min(1.0, double(job.workDone) / double(job.workTotal));
  return text + " " + std::to_string(unsigned(share * 100)) + " %";
}

std::string jobLine(const client::JobStatus& job) {
  std::string line = escapeForTerminal(job.id) + "  " + padded(stateOf(job), 13) + "  " +
                     padded(std::string(name(job.kind)), 5) + "  " + zonedTime(job.submitted);
  return job.label.empty() ? line : line + "  " + escapeForTerminal(job.label);
}

std::string jobBlock(const client::JobStatus& job) {
  std::string text = stateOf(job) + "\n";
  auto line = [&](std::string_view label, const std::string& content) {
    text += padded(std::string(label), 11) + content + "\n";
  };
  line("id", escapeForTerminal(job.id));
  line("kind", std::string(name(job.kind)));
  if (!job.label.empty()) line("label", escapeForTerminal(job.label));
  line("submitted", zonedTime(job.submitted));
  std::string again = job.starts > 1 ? "; begun " + std::to_string(job.starts) + " times" : "";
  if (job.started != 0) line("started", zonedTime(job.started) + again);
  if (job.ended != 0) line("ended", zonedTime(job.ended));
  if (job.expires != 0) line("kept until", zonedTime(job.expires));
  if (job.result) line("result", sizeOf(*job.result));
  if (!job.output.empty() && job.state == client::JobState::DONE) line("stored as", escapeForTerminal(job.output));
  if (!job.output.empty() && !job.hasEnded()) line("output", "to be stored as " + escapeForTerminal(job.output));
  if (job.error) line("error", std::string(kebabCase(job.error->code)) + ": " + job.error->message);
  return text;
}

}  // namespace capstan::cli
