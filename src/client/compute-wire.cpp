#include <capstan/client/compute-wire.h>

#include <capnp/message.h>

#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>

namespace capstan::client {

namespace {

std::string textOf(capnp::Text::Reader text) { return std::string(text.begin(), text.size()); }

// The error alone; the one in an Outcome is what there is a reader for.
Error readError(schema::Error::Reader from) {
  capnp::MallocMessageBuilder message;
  auto outcome = message.initRoot<schema::Outcome>();
  outcome.setError(from);
  KJ_IF_MAYBE (error, rpc::errorIn(outcome.asReader())) {
    return kj::mv(*error);
  }
  return {ErrorCode::IO, "the server does not say why", {}};
}

template <typename T, typename List>
std::vector<T> numbersOf(List list) {
  std::vector<T> numbers;
  numbers.reserve(list.size());
  for (T number : list) numbers.push_back(number);
  return numbers;
}

}  // namespace

ElementType typeOf(const Elements& elements) {
  constexpr ElementType TYPES[] = {ElementType::INT, ElementType::FLOAT, ElementType::TEXT};
  return TYPES[elements.index()];
}

std::string_view name(JobState state) {
  switch (state) {
    case JobState::QUEUED: return "queued";
    case JobState::RUNNING: return "running";
    case JobState::DONE: return "done";
    case JobState::FAILED: return "failed";
    case JobState::CANCELLED: return "cancelled";
    default: return "unknown";
  }
}

std::string_view name(JobKind kind) {
  switch (kind) {
    case JobKind::ADD: return "add";
    case JobKind::SORT: return "sort";
    case JobKind::SUM: return "sum";
    case JobKind::MIN: return "min";
    case JobKind::MAX: return "max";
    case JobKind::COUNT: return "count";
    default: return "unknown";
  }
}

ValueInfo readValueInfo(schema::ValueInfo::Reader from) {
  return {ElementType(from.getType()), from.getCount(), from.getSingle(), Encoding(from.getEncoding()),
          from.getBytes()};
}

JobStatus readJobStatus(schema::JobStatus::Reader from) {
  JobStatus status;
  status.id = textOf(from.getId());
  status.state = JobState(from.getState());
  status.kind = JobKind(from.getKind());
  status.label = textOf(from.getLabel());
  status.submitted = from.getSubmitted();
  status.started = from.getStarted();
  status.ended = from.getEnded();
  status.expires = from.getExpires();
  status.workDone = from.getWorkDone();
  status.workTotal = from.getWorkTotal();
  if (status.state == JobState::DONE) status.result = readValueInfo(from.getResult());
  if (status.state == JobState::FAILED) status.error = readError(from.getError());
  status.output = rpc::asView(from.getOutput());
  status.starts = from.getStarts();
  return status;
}

Elements readElements(schema::Elements::Reader from) {
  switch (from.which()) {
    case schema::Elements::INTS: return numbersOf<int64_t>(from.getInts());
    case schema::Elements::FLOATS: return numbersOf<double>(from.getFloats());
    case schema::Elements::TEXTS: break;
  }
  std::vector<std::string> texts;
  if (!from.isTexts()) return texts;
  texts.reserve(from.getTexts().size());
  for (auto text : from.getTexts()) texts.emplace_back(rpc::asView(text));
  return texts;
}

void writeElements(schema::Elements::Builder to, const Elements& elements) {
  if (auto ints = std::get_if<std::vector<int64_t>>(&elements)) {
    auto list = to.initInts(ints->size());
    for (size_t i = 0; i < ints->size(); ++i) list.set(i, (*ints)[i]);
  } else if (auto floats = std::get_if<std::vector<double>>(&elements)) {
    auto list = to.initFloats(floats->size());
    for (size_t i = 0; i < floats->size(); ++i) list.set(i, (*floats)[i]);
  } else {
    auto& texts = std::get<std::vector<std::string>>(elements);
    auto list = to.initTexts(texts.size());
    for (size_t i = 0; i < texts.size(); ++i) list.set(i, rpc::asData(texts[i]));
  }
}

void writeNumber(schema::Operand::Builder to, const Number& number) {
  if (auto integer = std::get_if<int64_t>(&number)) {
    to.setInt(*integer);
  } else {
    to.setFloat(std::get<double>(number));
  }
}

void writeSortOptions(schema::SortOptions::Builder to, const SortSettings& settings) {
  to.setDescending(settings.descending);
  to.setUnique(settings.unique);
  to.setType(schema::ElementType(settings.type));
  to.setField(settings.field);
  if (settings.separator) to.setSeparator(rpc::asData({&*settings.separator, 1}));
  to.setMemory(settings.memory);
}

void writeUploadOptions(schema::UploadOptions::Builder to, const UploadSettings& settings) {
  rpc::write(to.initExpectation(), settings.expectation);
  rpc::write(to.initAttributes(), settings.attributes);
  to.setMakeParents(settings.makeParents);
}

}  // namespace capstan::client
