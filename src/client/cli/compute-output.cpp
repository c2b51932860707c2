#include <capstan/client/cli/compute-output.h>

#include <algorithm>
#include <cmath>

#include <capstan/base/text.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/targets.h>

namespace capstan::cli {

namespace {

constexpr size_t LABEL_CHARACTERS = 64;

size_t characters(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; });
}

}  // namespace

void writeNumber(JsonWriter& json, const Number& number) {
  auto floating = std::get_if<double>(&number);
  std::string text = formatNumber(number);
  if (floating != nullptr && !std::isfinite(*floating)) {
    json.value(std::string_view(text));
  } else {
    json.raw(text);
  }
}

int printNumber(Output& output, const Number& number) {
  if (!output.json()) {
    output.line(formatNumber(number));
    return DONE;
  }
  JsonWriter json;
  json.beginObject().key("value");
  writeNumber(json, number);
  json.field("type", std::holds_alternative<int64_t>(number) ? "int" : "float").endObject();
  output.line(json.text());
  return DONE;
}

namespace {

// Tells how much is read.
class CountedSource final : public client::ByteProducer {
 public:
  CountedSource(kj::Own<client::ByteProducer> source, std::shared_ptr<WorkMeter> meter)
      : source(kj::mv(source)), meter(std::move(meter)) {}

  kj::Promise<Result<size_t>> read(char* buffer, size_t size) override {
    return source->read(buffer, size).then([this](Result<size_t> got) {
      if (got.ok()) meter->sent(*got);
      return got;
    });
  }

 private:
  kj::Own<client::ByteProducer> source;
  std::shared_ptr<WorkMeter> meter;
};

}  // namespace

ComputationProgress::ComputationProgress(Context& context, std::string kind, ChosenInput& chosen)
    : kind(std::move(kind)) {
  if (!context.showsProgress()) return;
  meter = std::make_shared<WorkMeter>(context.meter);
  if (auto streamed = std::get_if<client::StreamedInput>(&chosen.input)) {
    meter->sending(chosen.bytes);
    chosen.source = kj::heap<CountedSource>(kj::mv(chosen.source), meter);
    streamed->source = chosen.source.get();
  }
  line = context.startProgress();
}

client::OnWork ComputationProgress::onWork() const {
  if (meter == nullptr) return {};
  return
      [meter = meter, what = kind + ", running"](uint64_t done, uint64_t total) { meter->report(what, done, total); };
}

ValuePrinter::ValuePrinter(Context& context, std::shared_ptr<ComputationProgress> progress)
    : context(context), sink(context.output, context.port()), progress(std::move(progress)) {}

void ValuePrinter::begin(const client::ValueInfo& about) {
  info = about;
  if (info.single) {
    ready = "{\"value\":";
  } else {
    JsonWriter json;
    json.beginObject().field("type", name(info.type)).field("count", info.count).key("values");
    ready = json.text() + "[";
  }
}

kj::Promise<void> ValuePrinter::end() {
  endProgress();
  if (!context.output.json()) return kj::READY_NOW;
  if (!begun.empty()) addAsJson(begun);
  begun.clear();
  ready += info.single ? ",\"type\":\"" + std::string(name(info.type)) + "\"}\n" : std::string("]}\n");
  return sink.write(ready).ignoreResult();
}

kj::Promise<Status> ValuePrinter::write(std::string_view bytes) {
  endProgress();
  if (!context.output.json()) return sink.write(bytes);
  // The text of the write before is done with.
  while (!bytes.empty()) {
    size_t end = bytes.find('\n');
    if (end == std::string_view::npos) {
      begun += bytes;
      break;
    }
    std::string_view line = bytes.substr(0, end);
    if (!begun.empty()) line = begun += line;
    addAsJson(line);
    begun.clear();
    bytes.remove_prefix(end + 1);
  }
  return sink.write(ready).then([this](Status status) {
    ready.clear();
    return status;
  });
}

kj::Promise<Status> ValuePrinter::skip(uint64_t zeros) {
  endProgress();
  if (!context.output.json()) return sink.skip(zeros);
  begun.append(zeros, '\0');
  return okStatus();
}

void ValuePrinter::addAsJson(std::string_view line) {
  if (!first) ready += ',';
  first = false;
  JsonWriter json;
  std::optional<Number> number;
  // Lines may be written as JSON does not have it ("+5", "007", ".5").
  if (info.type == ElementType::INT) {
    if (auto integer = parseInt(line)) number = *integer;
  } else if (info.type == ElementType::FLOAT) {
    if (auto floating = parseFloat(line)) number = *floating;
  }
  if (number) {
    writeNumber(json, *number);
  } else {
    json.value(line);
  }
  ready += json.text();
}

void ResultOptions::declareJob(OptionTable& table) {
  table.flag("--async", async, "start a job, which goes on without this command, and print its id");
  table.text("--label", label, "TEXT", "a name for the job, for people");
}

std::optional<std::string> ResultOptions::problem() const {
  if (output && *output != "-" && namesFolder(*output))
    return "-o needs the name of a file: " + (output->empty() ? "''" : escapeForTerminal(*output)) + " is a folder's";
  if (label && !async) return "--label names a job: it needs --async";
  if (label && characters(*label) > LABEL_CHARACTERS)
    return "--label has more than " + std::to_string(LABEL_CHARACTERS) + " characters";
  return std::nullopt;
}

client::UploadSettings settingsOfResult() {
  client::UploadSettings settings;
  settings.keepMetadata = false;
  return settings;
}

kj::Promise<int> startJob(Context& context, client::Computation computation, const ResultOptions& options,
                          Encoding encoding) {
  client::JobSettings settings;
  settings.label = options.label.value_or("");
  settings.upload = settingsOfResult();
  settings.encoding = encoding;
  if (options.isStored()) settings.path = remotePath(*options.output);
  return context.client().submit(std::move(computation), settings).then([&context](Result<std::string> id) {
    if (!id.ok()) return context.output.fail(id.error());
    if (context.output.json()) {
      JsonWriter json;
      json.beginObject().field("id", std::string_view(*id)).endObject();
      context.output.line(json.text());
    } else {
      context.output.line(escapeForTerminal(*id));
    }
    return DONE;
  });
}

int reportStored(Context& context, const Result<Entry>& entry) {
  if (!entry.ok()) return context.output.fail(entry.error());
  if (context.output.json()) {
    context.output.line(entryAsJson(*entry));
  } else if (context.output.verbose()) {
    context.output.line("stored " + context.output.name(entry->path) + " (" + formatSize(entry->size) + ")");
  }
  return DONE;
}

}  // namespace capstan::cli
