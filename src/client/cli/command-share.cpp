// `capstan share`, `capstan shares` and `capstan revoke`: handing out a folder, and taking it back.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include <capstan/base/file.h>
#include <capstan/base/text.h>
#include <capstan/client/cli/command-list.h>
#include <capstan/client/cli/context.h>
#include <capstan/client/cli/doctor-service.h>
#include <capstan/client/cli/entry-format.h>
#include <capstan/client/cli/invite-file.h>
#include <capstan/client/cli/json.h>
#include <capstan/client/cli/targets.h>
#include <capstan/client/cli/unit-advice.h>

namespace capstan::cli {

namespace {

using client::Share;
using client::ShareState;

const char* wordFor(ShareState state) {
  switch (state) {
    case ShareState::LIVE: return "live";
    case ShareState::REVOKED: return "revoked";
    case ShareState::EXPIRED: return "expired";
    case ShareState::USED_UP: return "used-up";
    default: return "unknown";
  }
}

std::string_view rightsOf(const Share& share) { return share.write ? "read-write" : "read-only"; }

void timeOrNull(JsonWriter& json, std::string_view name, int64_t time) {
  json.key(name);
  if (time == 0) {
    json.null();
  } else {
    json.value(formatTime(time));
  }
}

void countOrNull(JsonWriter& json, std::string_view name, uint64_t count) {
  json.key(name);
  if (count == 0) {
    json.null();
  } else {
    json.value(count);
  }
}

void writeShare(JsonWriter& json, const Share& share) {
  json.field("id", share.id).field("label", share.label).field("path", share.path).field("rights", rightsOf(share));
  json.field("compute", share.compute);
  timeOrNull(json, "expires", share.expires);
  countOrNull(json, "uses", share.uses);
  json.field("used", share.used);
  timeOrNull(json, "lastUsed", share.lastUsed);
  json.field("parent", share.parent).field("state", wordFor(share.state));
  timeOrNull(json, "made", share.made);
  countOrNull(json, "quota", share.quota);
  json.field("stored", share.stored).field("connections", share.connections);
}

// ---- share

struct ShareOptions {
  bool readOnly = false;
  bool readWrite = false;
  bool noCompute = false;
  std::optional<uint64_t> expires;
  std::optional<uint64_t> uses;
  std::optional<uint64_t> quota;
  std::optional<std::string> label;
  std::optional<std::string> output;
  std::vector<std::string> addresses;
};

// The token of the share that is being made is in here until the invite is written.
struct Sharing {
  client::NewShare made;
  rpc::Invite invite;
  std::string file;          // "-": standard output
  bool fileIsNamed = false;  // else it is named after the share
  bool addressesGiven = false;
  bool replaced = false;     // there was a file
  std::optional<Unit> unit;  // that the server is, if it runs on this machine
};

Result<std::vector<rpc::Address>> readAddresses(const std::vector<std::string>& texts) {
  std::vector<rpc::Address> addresses;
  for (auto& text : texts) {
    auto address = rpc::parseAddress(text);
    if (!address.ok()) return address.error();
    addresses.push_back(std::move(*address));
  }
  return addresses;
}

Status writeInvite(Context& context, const Sharing& sharing) {
  auto text = rpc::format(sharing.invite);
  if (!text.ok()) return text.error();
  if (sharing.file == "-") {
    context.output.raw(*text);
    return okStatus();
  }
  return sharing.fileIsNamed ? writeFileAtomically(sharing.file, *text, 0600) : writeNewInvite(sharing.file, *text);
}

// With the invite on standard output there is no room for the id.
void tellShared(Context& context, const Sharing& sharing) {
  Output& output = context.output;
  const Share& share = sharing.made.share;
  if (output.json() && sharing.file != "-") {
    JsonWriter json;
    json.beginObject();
    writeShare(json, share);
    output.line(json.field("invite", sharing.file).endObject().text());
  } else if (sharing.file != "-") {
    output.line(escapeForTerminal(share.id));
  }
  if (sharing.file != "-") {
    output.note("the invite is in " + escapeForTerminal(sharing.file) +
                ": whoever has it has what it gives; capstan --server @" + escapeForTerminal(sharing.file) + " ls");
  }
  if (sharing.replaced) {
    output.note("it took the place of an earlier file; a share whose invite that was is still there: capstan shares");
  }
  if (!sharing.addressesGiven && !reachableFromElsewhere(sharing.invite.addresses)) {
    output.note("this server can be reached from this machine only; for others, " + howToBeReached(sharing.unit) +
                ", or name the address under which they reach it with --address");
  }
}

// An invite that could not be written leaves nobody who knows the token: the share is taken back.
kj::Promise<int> takeBack(Context& context, std::shared_ptr<Sharing> sharing, Error error) {
  return context.client().revokeShare(sharing->made.share.id).then([&context, error](Result<uint32_t> revoked) {
    int status = context.output.fail(error);
    if (!revoked.ok()) context.output.fail(revoked.error());
    return status;
  });
}

kj::Promise<Status> findAddresses(Context& context, std::shared_ptr<Sharing> sharing, std::vector<rpc::Address> given) {
  return context.client().contact().then(
      [&context, sharing, given = std::move(given)](Result<client::Contact> contact) mutable -> kj::Promise<Status> {
        if (!contact.ok()) return Status(contact.error());
        sharing->invite.certificate = contact->certificate;
        if (!given.empty()) {
          sharing->addressesGiven = true;
          sharing->invite.addresses = std::move(given);
          return okStatus();
        }
        return context.client().hello().then(
            [&context, sharing, contact = std::move(*contact)](Result<client::ServerInfo> info) -> Status {
              if (!info.ok()) return info.error();
              auto dialled = rpc::parseAddress(context.serverName());
              if (!dialled.ok()) return dialled.error();
              Machine machine{info->host, {}};
              if (dialled->isLoopback()) machine = thisMachine(info->host);
              if (isCapstanHere(pid_t(info->processId))) sharing->unit = unitOf(pid_t(info->processId));
              sharing->invite.addresses = inviteAddresses(contact.addresses, *dialled, machine);
              return okStatus();
            });
      });
}

kj::Promise<int> share(Context& context, std::shared_ptr<ShareOptions> options) {
  if (options->readOnly && options->readWrite) {
    return context.usage("--read-only and --read-write exclude each other");
  }
  for (auto& [name, value] :
       {std::pair{"--expires", options->expires}, {"--uses", options->uses}, {"--quota", options->quota}}) {
    if (value && *value == 0) {
      return context.usage(std::string(name) + " has to be more than 0; leave it out for no such bound");
    }
  }
  auto given = readAddresses(options->addresses);
  if (!given.ok()) return context.usage("--address: " + given.error().message);
  client::ShareTerms terms;
  terms.path = remotePath(context.operands[0]);
  terms.write = options->readWrite;
  terms.compute = !options->noCompute;
  terms.lifetime = options->expires.value_or(0);
  terms.uses = options->uses.value_or(0);
  terms.quota = options->quota.value_or(0);
  terms.label = options->label.value_or("");
  auto sharing = std::make_shared<Sharing>();
  return findAddresses(context, sharing, std::move(*given))
      .then([&context, terms](Status status) mutable -> kj::Promise<Result<client::NewShare>> {
        if (!status.ok()) return Result<client::NewShare>(status.error());
        return context.client().share(std::move(terms));
      })
      .then([&context, sharing, options](Result<client::NewShare> made) -> kj::Promise<int> {
        if (!made.ok()) return context.output.fail(made.error());
        sharing->made = std::move(*made);
        sharing->fileIsNamed = options->output.has_value();
        sharing->file = options->output.value_or(sharing->made.share.id + ".invite");
        sharing->invite.token = sharing->made.token;
        sharing->invite.label = sharing->made.share.label;
        if (sharing->made.share.expires != 0) sharing->invite.expires = sharing->made.share.expires;
        sharing->replaced = sharing->file != "-" && access(sharing->file.c_str(), F_OK) == 0;
        Status written = writeInvite(context, *sharing);
        if (!written.ok()) return takeBack(context, sharing, written.error());
        tellShared(context, *sharing);
        return DONE;
      });
}

AnyAction defineShare(OptionTable& table) {
  auto options = std::make_shared<ShareOptions>();
  table.flag("--read-only", options->readOnly, "the receiver can look, not change (this is the default)");
  table.flag("--read-write", options->readWrite, "the receiver can change what is in the folder");
  table.flag("--no-compute", options->noCompute, "the receiver cannot sort and add at the server");
  table.duration("--expires", options->expires, "from now on; then it ends by itself (default: it does not)");
  table.number("--uses", options->uses, "how often one can log in with it (default: any number of times)");
  table.size(
      "--quota", options->quota,
      "how much the folder may hold, each file at least 4 KiB, and its trash as much again (default: what the disk "
      "holds)");
  table.text("--label", options->label, "TEXT", "what it is for; the receiver hears it when the share has ended");
  table.text("--output,-o", options->output, "INVITE",
             "where the invite is written; - is stdout (default: ID.invite, if there is no such file)");
  table.texts("--address", options->addresses, "ADDR",
              "by which the receiver reaches the server (default: what it listens on); may be repeated");
  return [options](Context& context) { return share(context, options); };
}

// ---- shares

std::string padded(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text;
}

std::string usesColumn(const Share& share) {
  bool one = share.used == 1 && share.uses == 0;
  return std::to_string(share.used) + (share.uses == 0 ? "" : " of " + std::to_string(share.uses)) +
         (one ? " login" : " logins");
}

std::string expiresColumn(const Share& share) {
  if (share.state != ShareState::LIVE) return wordFor(share.state);
  return share.expires == 0 ? "no end" : "until " + localTime(share.expires);
}

// One line for each share, below the one that it was made from, in columns as wide as they have to be.
class ShareTable {
 public:
  void add(const Share& share) {
    size_t depth = depths.contains(share.parent) ? std::min(depths[share.parent] + 1, DEEPEST_SHOWN) : 0;
    depths[share.id] = depth;
    std::string rights(rightsOf(share));
    if (!share.compute) rights += ", no compute";
    rows.push_back({std::string(2 * depth, ' ') + escapeForTerminal(share.id),
                    share.path.empty() ? "." : escapeForTerminal(share.path), rights, expiresColumn(share),
                    usesColumn(share), share.lastUsed == 0 ? "never used" : "used " + localTime(share.lastUsed),
                    escapeForTerminal(share.label)});
  }

  std::vector<std::string> lines() const {
    std::vector<size_t> widths(rows.empty() ? 0 : rows[0].size());
    for (auto& row : rows) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::vector<std::string> result;
    for (auto& row : rows) {
      std::string line;
      for (size_t i = 0; i < row.size(); ++i) line += padded(row[i], widths[i] + 2);
      line.erase(line.find_last_not_of(' ') + 1);
      result.push_back(std::move(line));
    }
    return result;
  }

 private:
  static constexpr size_t DEEPEST_SHOWN = 16;
  std::map<std::string, size_t> depths;
  std::vector<std::vector<std::string>> rows;
};

void printAsJson(Output& output, const std::vector<Share>& shares) {
  output.raw("[");
  for (size_t i = 0; i < shares.size(); ++i) {
    JsonWriter json;
    json.beginObject();
    writeShare(json, shares[i]);
    output.raw((i == 0 ? "" : ",\n ") + json.endObject().text());
  }
  output.line("]");
}

kj::Promise<int> listShares(Context& context, bool all) {
  return context.client().shares().then([&context, all](Result<std::vector<Share>> shares) {
    Output& output = context.output;
    if (!shares.ok()) return output.fail(shares.error());
    size_t before = shares->size();
    if (!all) std::erase_if(*shares, [](auto& share) { return share.state != ShareState::LIVE; });
    if (output.json()) {
      printAsJson(output, *shares);
      return DONE;
    }
    ShareTable table;
    for (auto& share : *shares) table.add(share);
    for (auto& line : table.lines()) output.line(line);
    size_t ended = before - shares->size();
    if (ended > 0) output.note(std::to_string(ended) + " more that have ended; --all lists them too");
    if (before == 0) output.note("nothing is shared; capstan share PATH -o INVITE does that");
    return DONE;
  });
}

// ---- revoke

// The share whose id begins so.
Result<Share> findShare(const std::vector<Share>& shares, const std::string& id) {
  std::vector<const Share*> found;
  for (auto& share : shares) {
    if (share.id == id) return share;
    if (!id.empty() && share.id.starts_with(id)) found.push_back(&share);
  }
  if (found.size() == 1) return *found[0];
  std::string shown = escapeForTerminal(id);
  if (found.empty()) {
    return Error{ErrorCode::NOT_FOUND, "there is no share " + shown + "; capstan shares tells which there are", {}};
  }
  return Error{ErrorCode::INVALID_ARGUMENT,
               std::to_string(found.size()) + " shares begin with " + shown + "; give more of the id",
               {}};
}

kj::Promise<Result<std::string>> idOf(Context& context, std::string typed) {
  return context.client().currentShare().then(
      [&context, typed](Result<Share> current) -> kj::Promise<Result<std::string>> {
        if (!current.ok()) return Result<std::string>(current.error());
        if (current->id == typed) return Result<std::string>(typed);  // to give back what one was given
        return context.client().shares().then([typed](Result<std::vector<Share>> shares) -> Result<std::string> {
          if (!shares.ok()) return shares.error();
          auto found = findShare(*shares, typed);
          if (!found.ok()) return found.error();
          return found->id;
        });
      });
}

kj::Promise<int> revoke(Context& context) {
  return idOf(context, context.operands[0])
      .then([&context](Result<std::string> id) -> kj::Promise<Result<uint32_t>> {
        if (!id.ok()) return Result<uint32_t>(id.error());
        return context.client().revokeShare(*id);
      })
      .then([&context](Result<uint32_t> ended) {
        Output& output = context.output;
        if (!ended.ok()) return output.fail(ended.error());
        if (output.json()) {
          JsonWriter json;
          output.line(json.beginObject().field("revoked", *ended).endObject().text());
        } else if (*ended == 0) {
          output.note("it had ended already");
        } else if (output.verbose()) {
          output.line(*ended == 1 ? "revoked" : "revoked, with " + std::to_string(*ended - 1) + " made from it");
        }
        return DONE;
      });
}

}  // namespace

Command shareCommand() {
  return {
      "share",
      "PATH",
      "PATH  a folder on the server; \".\" is everything",
      1,
      1,
      "hand out a folder by an invite",
      {{"capstan share photos --label family -o family.invite", "to look at"},
       {"capstan share inbox --read-write --quota 10GiB --expires 7d -o inbox.invite", "to put things in, for a week"},
       {"capstan --server @family.invite share 2026 --uses 1 -o one.invite", "a part of what one was given, once"},
       {"capstan --server @family.invite ls", "what the receiver types; get, put, sync, watch, sort, shell alike"}},
      "capstan shares lists them, capstan revoke ID takes one back",
      Command::Needs::SERVER,
      true,
      defineShare};
}

Command sharesCommand() {
  return {"shares",
          "",
          "",
          0,
          0,
          "list what was handed out",
          {{"capstan shares", "id, path, rights, end, logins, last use, label; below the one that it was made from"},
           {"capstan shares --all", "with those that ended in the last 30 days"},
           {"capstan --json shares", "for scripts"}},
          "capstan revoke ID takes one back",
          Command::Needs::SERVER,
          true,
          [](OptionTable& table) -> AnyAction {
            auto all = std::make_shared<bool>(false);
            table.flag("--all,-a", *all, "with those that have ended");
            return [all](Context& context) { return listShares(context, *all); };
          }};
}

Command revokeCommand() {
  return {"revoke",
          "ID",
          "ID  of a share, or as much of its beginning as no other has",
          1,
          1,
          "take back what was handed out",
          {{"capstan revoke k3vq", "and all that was made from it; what is under way is cut off"}},
          "capstan shares lists what is left",
          Command::Needs::SERVER,
          true,
          [](OptionTable&) -> AnyAction { return Action(revoke); }};
}

}  // namespace capstan::cli
