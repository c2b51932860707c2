// What would be done with one path, and why, in sentences.
#include <capstan/base/text.h>
#include <capstan/sync/cycle-impl.h>

namespace capstan::sync {

namespace {

std::string_view verbOf(const Operation& operation) {
  bool remote = operation.side == Side::REMOTE;
  switch (operation.kind) {
    case Operation::Kind::MAKE_FOLDER: return remote ? "would be made at the server" : "would be made here";
    case Operation::Kind::PUT: return remote ? "would be sent" : "would be received";
    case Operation::Kind::MAKE_SYMLINK: return remote ? "would be linked at the server" : "would be linked here";
    case Operation::Kind::SET_METADATA:
      return remote ? "would get its metadata at the server" : "would get its metadata here";
    case Operation::Kind::MOVE: return remote ? "would be moved at the server" : "would be moved here";
    case Operation::Kind::COPY: return remote ? "would be copied at the server" : "would be copied here";
    case Operation::Kind::REMOVE: return remote ? "would be removed at the server" : "would be removed here";
    case Operation::Kind::AGREE: return "is in step (it only has to be noted)";
    case Operation::Kind::FORGET: return "is on neither side any more";
  }
  return "is not understood";
}

// Which rule, and where it stands.
std::string describe(const IgnoreRules::Rule& rule) {
  std::string text = escapeForTerminal(rule.pattern) + " (" + escapeForTerminal(rule.origin);
  if (rule.line != 0) text += ":" + std::to_string(rule.line);
  return text + ")";
}

std::string describe(const Plan& plan, const std::string& name) {
  std::string text;
  auto add = [&](const std::string& sentence) { text += (text.empty() ? "" : "; ") + sentence; };
  for (auto& operation : plan.operations) {
    auto path = operation.path.empty() ? name : escapeForTerminal(operation.path);
    auto reason = operation.reason.empty() ? "" : ": " + operation.reason;
    add(path + " " + std::string(verbOf(operation)) + reason);
  }
  for (auto& withheld : plan.withheld) add(escapeForTerminal(withheld.path) + " stays as it is: " + withheld.reason);
  return text.empty() ? name + " stays as it is on both sides" : text;
}

// The difference at one path, if there is any.
std::optional<Difference> differenceAt(const std::string& path, std::optional<Agreed> agreed, std::optional<Node> local,
                                       std::optional<Node> remote) {
  auto changed = [&](Side side, const std::optional<Node>& now) {
    return agreed ? !now || !isAsAgreed(*now, agreed->on(side)) : now.has_value();
  };
  bool localChanged = changed(Side::LOCAL, local), remoteChanged = changed(Side::REMOTE, remote);
  if (!localChanged && !remoteChanged) return std::nullopt;
  return Difference{path, std::move(agreed), std::move(local), std::move(remote), localChanged, remoteChanged};
}

// Nothing, where the error only says that nothing is there.
Result<std::optional<Node>> orNothing(Result<std::optional<Node>> node) {
  bool nothing =
      !node.ok() && (node.error().code == ErrorCode::NOT_FOUND || node.error().code == ErrorCode::NOT_DIRECTORY);
  if (nothing) return std::optional<Node>();
  return node;
}

}  // namespace

kj::Promise<Result<std::string>> Cycle::Impl::explainNodes(std::string path, std::optional<Node> local,
                                                           std::optional<Node> remote) {
  auto name = escapeForTerminal(path);
  bool isFolder =
      (local && local->type == EntryType::DIRECTORY) || (!local && remote && remote->type == EntryType::DIRECTORY);
  if (auto rule = ignore.ruleFor(path, isFolder))
    return Result<std::string>(name + " is ignored by " + describe(*rule));
  auto special = local && local->type == EntryType::OTHER ? "" : "at the server ";
  if ((local && local->type == EntryType::OTHER) || (remote && remote->type == EntryType::OTHER))
    return Result<std::string>(name + " is skipped: " + special + "it is a device, socket or pipe");
  auto agreed = state.find(path);
  if (!agreed && !local && !remote) return Result<std::string>(name + " is on neither side");
  auto difference = differenceAt(path, std::move(agreed), std::move(local), std::move(remote));
  if (!difference) return Result<std::string>(name + " is in step");
  auto shared = std::make_shared<std::vector<Difference>>(1, std::move(*difference));
  auto wanted = digestsWanted(*shared, planOptions());
  auto read = [shared](Replica& side, std::vector<std::string> paths, std::optional<Node> Difference::*node) {
    if (paths.empty()) return kj::Promise<void>(kj::READY_NOW);
    return side.digests(std::move(paths)).then([shared, node](std::vector<Result<std::string>> digests) {
      if (digests.size() == 1 && digests[0].ok() && (shared->front().*node))
        (shared->front().*node)->digest = *digests[0];
    });
  };
  return read(this->local, std::move(wanted.local), &Difference::local)
      .then([this, read, shared, paths = std::move(wanted.remote)]() mutable {
        return read(this->remote, std::move(paths), &Difference::remote);
      })
      .then([this, shared, name]() -> Result<std::string> { return describe(makePlan(*shared, planOptions()), name); });
}

kj::Promise<Result<std::string>> Cycle::explain(std::string path) {
  auto* inside = impl.get();
  return inside->local.stat(path).then([inside, path](Result<std::optional<Node>> local) mutable {
    auto here = orNothing(std::move(local));
    return inside->remote.stat(path).then(
        [inside, path,
         here = std::move(here)](Result<std::optional<Node>> remote) mutable -> kj::Promise<Result<std::string>> {
          auto there = orNothing(std::move(remote));
          if (!here.ok()) return Result<std::string>(here.error());
          // What is ignored can be told without the server.
          bool isFolder = here->has_value() && (*here)->type == EntryType::DIRECTORY;
          if (!there.ok() && !inside->ignore.isIgnored(path, isFolder)) return Result<std::string>(there.error());
          return inside->explainNodes(path, std::move(*here), there.ok() ? std::move(*there) : std::nullopt);
        });
  });
}

}  // namespace capstan::sync
