#include <capstan/client/cli/output.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <capstan/base/text.h>
#include <capstan/client/cli/exit-status.h>
#include <capstan/client/cli/json.h>

namespace capstan::cli {

namespace {

constexpr size_t HOLD_BACK = 64 << 10;

bool environmentWantsColor() {
  const char* noColor = getenv("NO_COLOR");
  return noColor == nullptr || *noColor == '\0';
}

}  // namespace

Output::Output(Screen& screen, OutputMode mode)
    : screen(screen),
      mode(mode),
      usesColor(mode.color && environmentWantsColor() && screen.takesEscapes(Channel::OUT)) {}

Output::~Output() noexcept(false) { flush(); }

void Output::raw(std::string_view bytes) {
  if (held.size() + bytes.size() >= HOLD_BACK) {
    flush();
    if (bytes.size() >= HOLD_BACK) {
      write(bytes);
      return;
    }
  }
  if (!broken) held += bytes;
}

void Output::line(std::string_view text) {
  raw(text);
  raw("\n");
}

std::string Output::name(std::string_view bytes) const {
  return isTerminal() ? escapeForTerminal(bytes) : std::string(bytes);
}

std::string Output::inColor(std::string_view color, std::string_view text) const {
  if (!usesColor) return std::string(text);
  return "\x1b[" + std::string(color) + "m" + std::string(text) + "\x1b[m";
}

std::string Output::colored(const Entry& entry, std::string_view shown) const {
  const char* color = nullptr;
  if (entry.type == EntryType::DIRECTORY) color = "1;34";
  if (entry.type == EntryType::SYMLINK) color = "36";
  return color == nullptr ? std::string(shown) : inColor(color, shown);
}

void Output::note(std::string_view text) {
  if (mode.quiet) return;
  flush();
  screen.write(Channel::ERR, std::string(text) + "\n");
}

int Output::fail(const Error& error) {
  complain(kebabCase(error.code), error.message, error.path);
  return exitStatusOf(error.code);
}

void Output::complain(std::string_view code, std::string_view message, std::string_view path) {
  flush();
  std::string text =
      mode.json ? errorAsJson(code, message, path) : "capstan: " + std::string(code) + ": " + std::string(message);
  screen.write(Channel::ERR, text + "\n");
}

void Output::hint(std::string_view text) {
  if (!mode.json) note("hint: " + std::string(text));
}

void Output::flush() {
  std::string bytes = std::move(held);
  held.clear();
  write(bytes);
}

void Output::write(std::string_view bytes) {
  if (bytes.empty() || broken) return;
  int problem = screen.write(Channel::OUT, bytes);
  if (problem != 0) setBroken(problem);
}

void Output::setBroken(int number) {
  if (broken) return;
  broken = true;
  brokenBy = number == EPIPE ? 0 : number;
  if (brokenBy != 0) fail(errorFromErrno(brokenBy, "cannot write to standard output"));
  if (brokenFulfiller.get() != nullptr) brokenFulfiller->fulfill(int(brokenBy));
}

int Output::brokenStatus() const { return brokenBy == 0 ? DONE : FAILED; }

kj::Promise<int> Output::whenBroken() {
  if (broken) return brokenBy;
  auto paf = kj::newPromiseAndFulfiller<int>();
  brokenFulfiller = kj::mv(paf.fulfiller);
  return kj::mv(paf.promise);
}

std::string errorAsJson(std::string_view code, std::string_view message, std::string_view path) {
  JsonWriter json;
  json.beginObject().key("error").beginObject().field("code", code).field("message", message).key("path");
  if (path.empty()) {
    json.null();
  } else {
    json.value(path);
  }
  json.endObject().endObject();
  return json.text();
}

}  // namespace capstan::cli
