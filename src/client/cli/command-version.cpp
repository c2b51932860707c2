// `capstan version`: what this program is made of. Asks no server.
#include <capnp/common.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/json.h>
#include <capstan/program-version.h>
#include <capstan/schema/gateway.capnp.h>

namespace capstan::cli {

namespace {

std::string capnpVersion() {
  return std::to_string(CAPNP_VERSION_MAJOR) + "." + std::to_string(CAPNP_VERSION_MINOR) + "." +
         std::to_string(CAPNP_VERSION_MICRO);
}

kj::Promise<int> showVersion(Context& context) {
  uint32_t protocol = schema::PROTOCOL_VERSION;
  if (context.output.json()) {
    JsonWriter json;
    json.beginObject()
        .field("version", CAPSTAN_VERSION)
        .field("protocolVersion", protocol)
        .field("capnp", capnpVersion())
        .endObject();
    context.output.line(json.text());
  } else {
    context.output.line("capstan " CAPSTAN_VERSION);
    context.output.line("protocol " + std::to_string(protocol) + ", Cap'n Proto " + capnpVersion());
  }
  return DONE;
}

}  // namespace

Command versionCommand() {
  return {"version",
          "",
          "",
          0,
          0,
          "tell which version this is",
          {{"capstan version", ""}, {"capstan --json version", "for scripts"}},
          "capstan status tells the server's",
          Command::Needs::NOTHING,
          true,
          [](OptionTable&) -> AnyAction { return Action(showVersion); }};
}

}  // namespace capstan::cli
