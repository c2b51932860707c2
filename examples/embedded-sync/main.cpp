// Keeps a folder in step with a Capstan server while it works in it: writes a note, and waits until the server has it.
// Shows how another program embeds the synchroniser, once on a thread of its own and once on its own event loop.
//
//   embedded-sync ADDRESS TOKEN_FILE LOCAL REMOTE thread|loop     TOKEN_FILE is - where the server asks for no token
#include <cstdio>
#include <fstream>
#include <string>

#include <kj/async-io.h>

#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/client/blocking-client.h>
#include <capstan/sync/service.h>

using namespace capstan;

namespace {

int fail(const Error& error) {
  std::fprintf(stderr, "embedded-sync: %s: %s\n", std::string(kebabCase(error.code)).c_str(), error.message.c_str());
  return 1;
}

// A token file holds 64 hexadecimal digits and a newline.
Result<std::string> readToken(const std::string& path) {
  if (path == "-") return std::string();
  Result<std::string> text = readFile(path);
  if (!text.ok()) return text;
  std::optional<std::string> token = fromHex(text->substr(0, text->find('\n')));
  if (!token) return errorAt(ErrorCode::INVALID_ARGUMENT, path, "there is no token in ");
  return *token;
}

void writeNote(const sync::ServiceOptions& options, const std::string& name) {
  std::ofstream(options.local + "/" + name) << "written by " << name << "\n";
}

// What the service tells; called on the thread that it runs on.
void onEvent(const sync::Event& event) {
  if (event.kind == sync::Event::Kind::CYCLE_ENDED && event.report->didSomething())
    std::printf("%s\n", event.report->summary().c_str());
}

// Whether a report is one of success; tells what it is otherwise.
bool isGood(const sync::CycleReport& report) {
  if (report.error) fail(*report.error);
  if (report.stop) std::fprintf(stderr, "embedded-sync: %s\n", report.stop->sentence.c_str());
  for (const auto& failure : report.failures) fail(failure.error);
  return !report.error && !report.stop && report.failures.empty();
}

// For programs that have no event loop: the calls block, the work is done elsewhere.
bool syncOnThread(const sync::ServiceOptions& options, const std::string& name) {
  sync::ServiceThread service(options, onEvent);
  Status started = service.start();
  if (!started.ok()) return fail(started.error()) == 0;
  writeNote(options, name);
  bool good = isGood(service.flush());
  service.stop();
  return good;
}

// For programs that run KJ's event loop: promises, and nothing blocks.
bool syncOnLoop(const sync::ServiceOptions& options, const std::string& name) {
  kj::AsyncIoContext io = kj::setupAsyncIo();
  sync::Service service(io.provider->getNetwork(), io.provider->getTimer(), options, onEvent);
  Status started = service.start().wait(io.waitScope);
  if (!started.ok()) return fail(started.error()) == 0;
  writeNote(options, name);
  bool good = isGood(service.flush().wait(io.waitScope));
  service.stop().wait(io.waitScope);
  return good;
}

int run(const sync::ServiceOptions& options, bool onThread) {
  std::string name = onThread ? "thread.txt" : "loop.txt";
  bool good = onThread ? syncOnThread(options, name) : syncOnLoop(options, name);
  if (!good) return 1;

  client::BlockingClient server(options.server);
  std::string content;
  Result<Entry> read = server.read(options.remote + "/" + name, [&](std::string_view bytes) {
    content += bytes;
    return okStatus();
  });
  if (!read.ok()) return fail(read.error());
  std::printf("the server has: %s", content.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string way = argc == 6 ? argv[5] : "";
  if (way != "thread" && way != "loop") {
    std::fprintf(stderr, "usage: embedded-sync ADDRESS TOKEN_FILE LOCAL REMOTE thread|loop\n");
    return 2;
  }
  Result<rpc::Address> address = rpc::parseAddress(argv[1]);
  if (!address.ok()) return fail(address.error());
  Result<std::string> token = readToken(argv[2]);
  if (!token.ok()) return fail(token.error());
  sync::ServiceOptions options;
  options.server.address = *address;
  options.server.token = *token;
  options.server.name = "embedded-sync";
  options.local = argv[3];
  options.remote = argv[4];
  return run(options, way == "thread");
}
