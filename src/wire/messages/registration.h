// Who is in the mesh: what a node tells a tracker of itself, and two nodes each other. A part of the vocabulary in
// wire/messages.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/member.h"
#include "wire/messages/common.h"

namespace mesh {

/// What one program says to another of the same identity (mesh/rivals.h).
struct RivalClaim {
  std::string run;
  std::int64_t age = 0;  ///< milliseconds that it has been running
  std::string proof;
  template <class V>
  void describe(V& v) {
    v("run", run), v("age", age), v("proof", proof);
  }
};

struct Welcome {
  static constexpr const char* name = "welcome";
  std::string observed;  ///< the asker's address as the tracker sees it
  std::uint32_t key = 0;
  std::vector<Member> members;  ///< some of the other nodes, for when no tracker answers
  std::string known_as;         ///< where another node has the same name: what tells this one from it
  /// Nothing else counts where one of these is so. Another program is here by this identity, and what it claims to
  /// the one that says hello (mesh/rivals.h).
  bool taken = false;
  RivalClaim rival;
  /// This very program is here already, by way of what it calls the tracker there.
  bool here_already = false;
  std::string via;
  std::string public_key;  ///< of a node that keeps directories, and the proof that it is who it was taken for
  std::string proof;
  template <class V>
  void describe(V& v) {
    v("observed", observed), v("key", key), v("members", members), v("as", known_as), v("taken", taken),
        v("rival", rival), v("here", here_already), v("via", via), v("pub", public_key), v("proof", proof);
  }
};

/// What two nodes tell each other: who they are, and whom else they know.
struct Greeted {
  static constexpr const char* name = "greeted";
  Member self;
  std::string public_key;  ///< of `self`, and the proof that it is (wire/identity.h), as in Hello
  std::string proof;
  RivalClaim rival;           ///< to the one that greets
  std::vector<Member> twins;  ///< others that have greeted by the identity of the one that greets, with another run
  std::vector<Member> known;  ///< some of those that it knows
  std::int64_t count = 0;     ///< of all
  template <class V>
  void describe(V& v) {
    v("self", self), v("pub", public_key), v("proof", proof), v("rival", rival), v("twins", twins), v("known", known),
        v("count", count);
  }
};

struct Greet {
  static constexpr const char* name = "greet";
  using Reply = Greeted;
  Member self;
  std::string public_key;
  std::string proof;
  std::string run;   ///< as in Hello
  RivalClaim rival;  ///< to the copy that it has met last
  std::vector<Member> known;
  std::int64_t count = 0;
  template <class V>
  void describe(V& v) {
    v("self", self), v("pub", public_key), v("proof", proof), v("run", run), v("rival", rival), v("known", known),
        v("count", count);
  }
};

/// The first message of a node on a control channel. A command that only asks questions sends none.
struct Hello {
  static constexpr const char* name = "hello";
  using Reply = Welcome;
  int version = 0;
  std::string instance;    ///< hex: tells nodes of one name apart
  std::string public_key;  ///< of which the instance follows (wire/identity.h)
  std::string proof;       ///< that the sender has the private one: over its name() and the channel's binding
  std::string node;
  std::vector<std::string> addresses;
  bool advertised = false;  ///< the addresses were given by --advertise and are the only ones to use
  std::uint16_t peer_port = 0;
  std::uint16_t channel_port = 0;
  bool head = false;
  bool v4_only = false;   ///< it does not listen at IPv6 addresses, though it may be seen to come from one
  std::string run;        ///< hex, drawn by each program at its start: tells it from a copy of it (mesh/rivals.h)
  std::string rival_run;  ///< of a copy that is to have another identity, and what this one claims to it
  RivalClaim rival;
  std::vector<std::string> former;  ///< instances that the node had before: what they had is its own
  std::string via;                  ///< what the sender calls the tracker; empty for what stands in for one
  template <class V>
  void describe(V& v) {
    v("version", version), v("instance", instance), v("pub", public_key), v("proof", proof), v("node", node),
        v("addr", addresses), v("adv", advertised), v("peer", peer_port), v("chan", channel_port), v("head", head),
        v("v4", v4_only), v("run", run), v("rival-run", rival_run), v("rival", rival), v("former", former),
        v("via", via);
  }
};

/// To a node, from a tracker to which another one comes by the same identity: any answer shows that it is still there.
/// Both ways: what one claims to the other (mesh/rivals.h).
struct PresenceAsk {
  static constexpr const char* name = "present";
  std::string run;   ///< of the other one
  RivalClaim rival;  ///< what that one claims to this; without a proof where it knows of none
  struct Reply {
    static constexpr const char* name = "present-reply";
    RivalClaim rival;
    template <class V>
    void describe(V& v) {
      v("rival", rival);
    }
  };
  template <class V>
  void describe(V& v) {
    v("run", run), v("rival", rival);
  }
};

/// A note to a node: what its people should know, for its log.
struct Notice {
  static constexpr const char* name = "notice";
  std::string text;
  template <class V>
  void describe(V& v) {
    v("text", text);
  }
};

}  // namespace mesh
