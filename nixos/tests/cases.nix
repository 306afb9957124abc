# Configurations: good ones, those that an assertion refuses, and those that the types refuse.
let
  mesh.services.knit.wg-mesh = {
    enable = true;
    secretFile = "/etc/knit/mesh.secret";
  };
  agent.services.knit.agent.enable = true;
  server.services.knit.server.enable = true;
  # What the flake of the Go daemon declares, as far as it is asked for here.
  goDaemon =
    { lib, ... }:
    {
      options.services.wgmesh.enable = lib.mkEnableOption "the Go daemon";
      config.services.wgmesh.enable = true;
    };
  with' = config: [
    mesh
    agent
    server
    config
  ];
  settings = of: settings: with' { services.knit.${of}.settings = settings; };
  deployments = deployments: with' { services.knit = { inherit deployments; }; };
in
{
  good = {
    # As the packages for Debian do it.
    plain = [
      mesh
      agent
      server
    ];
    off = [ ];
    everything = [
      {
        networking.useNetworkd = true;
        services.knit = {
          meshInterface = "mesh0";
          wg-mesh = {
            enable = true;
            openFirewall = true;
            exchangePort = 52001;
            secretFile = "/run/secrets/mesh";
            settings = {
              listen_port = 51900;
              no_lan_discovery = true;
              seed = [ "203.0.113.7" ];
            };
          };
          agent = {
            enable = true;
            tokenFile = "/run/secrets/join";
            settings = {
              server = "http://10.9.240.182:7400";
              labels.zone = "a";
              policy.host_paths = [ "/srv" ];
            };
          };
          server = {
            enable = true;
            makeCluster = false;
            openFirewall = true;
            masterKeyFile = "/run/secrets/master";
            credentials.oidc = "/run/secrets/oidc";
            settings = {
              port = 7500;
              public_url = "https://knit.example.com";
              oidc = {
                issuer = "https://id.example.com";
                client_id = "knit";
                client_secret_file = "/run/credentials/knit-server.service/oidc";
                allow = [
                  {
                    claim = "groups";
                    value = "ops";
                    role = "operator";
                  }
                ];
              };
            };
          };
          deployments = {
            shop = {
              image = "registry.example/shop:4.2";
              replicas = 3;
              env.PORT = "8080";
              ports = [
                {
                  container_port = 8080;
                  host_port = 80;
                }
              ];
              health.ready.http.port = 8080;
            };
            shop-test = {
              name = "shop";
              project = "test";
              image = "registry.example/shop:4.3";
            };
          };
        };
      }
    ];
    beside-the-go-daemon = [
      goDaemon
      agent
      {
        services.knit.server = {
          enable = true;
          settings.listen = [ "10.9.240.182" ];
        };
      }
    ];
    external-nats = settings "server" { nats_url = "nats://10.9.0.1:4222"; } ++ [
      { services.knit.server.openFirewall = true; }
    ];
    podman = [
      mesh
      agent
      {
        virtualisation.docker.enable = false;
        services.knit.agent.settings.docker_socket = "/run/podman/podman.sock";
      }
    ];
    unchecked = with' {
      services.knit = {
        wg-mesh.checkConfig = false;
        agent.checkConfig = false;
        server.checkConfig = false;
      };
    };
    warned = [
      mesh
      agent
      {
        networking.nftables.enable = true;
        networking.firewall.filterForward = true;
        services.knit.server = {
          enable = true;
          settings.listen = [ "0.0.0.0" ];
        };
      }
    ];
  };

  # Each is refused by exactly one assertion, whose message has these words.
  refused = {
    mesh-without-secret = {
      words = "secretFile is not set";
      config = [ { services.knit.wg-mesh.enable = true; } ];
    };
    two-sidecars = {
      words = "two sidecars";
      config = [
        goDaemon
        mesh
      ];
    };
    interface-named-twice = {
      words = "set the latter alone";
      config = settings "wg-mesh" { interface = "wg7"; };
    };
    interface-of-networking-wireguard = {
      words = "makes wg0 too";
      config = with' { networking.wireguard.interfaces.wg0 = { }; };
    };
    interface-of-wg-quick = {
      words = "makes wg0 too";
      config = with' { networking.wg-quick.interfaces.wg0 = { }; };
    };
    mesh-socket-elsewhere = {
      words = "the unit's own to decide";
      config = settings "wg-mesh" { socket_path = "/tmp/x"; };
    };
    agent-without-docker = {
      words = "runs containers with Docker";
      config = with' { virtualisation.docker.enable = false; };
    };
    agent-without-mesh = {
      words = "waits for a mesh";
      config = [ agent ];
    };
    agent-state-elsewhere = {
      words = "the unit's own to decide";
      config = settings "agent" { state_dir = "/srv/agent"; };
    };
    server-without-address = {
      words = "has no address: enable services.knit.wg-mesh, or";
      config = [ server ];
    };
    server-beside-the-go-daemon-without-address = {
      words = "open to root alone";
      config = [
        goDaemon
        server
      ];
    };
    one-port-for-two = {
      words = "port and nats_port are both 7422";
      config = settings "server" { port = 7422; };
    };
    server-state-elsewhere = {
      words = "the unit's own to decide";
      config = settings "server" { state_dir = "/srv/server"; };
    };
    master-key-among-the-credentials = {
      words = "what masterKeyFile is for";
      config = with' { services.knit.server.credentials.master-key = "/run/secrets/a"; };
    };
    master-key-in-the-store = {
      words = "master_key_file lies in the Nix store";
      config = settings "server" { master_key_file = ./cases.nix; };
    };
    nats-key-in-the-store = {
      words = "nats_tls_key lies in the Nix store";
      config = settings "server" { nats_tls_key = "/nix/store/00000000000000000000000000000000-key"; };
    };
    oidc-secret-in-the-store = {
      words = "client_secret_file lies in the Nix store";
      config = settings "server" { oidc.client_secret_file = ./cases.nix; };
    };
    deployments-without-server = {
      words = "applied by the server";
      config = [
        mesh
        { services.knit.deployments.web.image = "a"; }
      ];
    };
    deployment-that-is-no-file-name = {
      words = "../web make no file names";
      config = deployments {
        "../web" = {
          name = "web";
          image = "a";
        };
      };
    };
    deployment-declared-twice = {
      words = "default/web, default/web twice";
      config = deployments {
        web.image = "a";
        other = {
          name = "web";
          image = "b";
        };
      };
    };
  };

  # Each is refused by a type, whose words are nixpkgs' but for the option's name.
  mistyped = {
    secret-in-the-store = {
      words = "services.knit.wg-mesh.secretFile";
      config = with' { services.knit.wg-mesh.secretFile = "/nix/store/00000000000000000000000000000000-x"; };
    };
    secret-as-a-path-literal = {
      words = "services.knit.wg-mesh.secretFile";
      config = [
        {
          services.knit.wg-mesh = {
            enable = true;
            secretFile = ./cases.nix;
          };
        }
      ];
    };
    secret-that-is-relative = {
      words = "services.knit.agent.tokenFile";
      config = with' { services.knit.agent.tokenFile = "token"; };
    };
    credential-in-the-store = {
      words = "services.knit.server.credentials.x";
      config = with' { services.knit.server.credentials.x = ./cases.nix; };
    };
    port-out-of-range = {
      words = "services.knit.server.settings.port";
      config = settings "server" { port = 70000; };
    };
    port-as-text = {
      words = "services.knit.wg-mesh.settings.listen_port";
      config = settings "wg-mesh" { listen_port = "51820"; };
    };
    interface-too-long = {
      words = "services.knit.meshInterface";
      config = with' { services.knit.meshInterface = "a-name-longer-than-15"; };
    };
    server-that-is-empty = {
      words = "services.knit.agent.settings.server";
      config = settings "agent" { server = ""; };
    };
    toml-knows-no-null = {
      words = "services.knit.server.settings";
      config = settings "server" { public_url = null; };
    };
    option-misspelt = {
      words = "services.knit.server.enabel";
      config = with' { services.knit.server.enabel = true; };
    };
    deployment-without-image = {
      words = "services.knit.deployments.web.image";
      config = deployments { web.replicas = 2; };
    };
    deployment-name-that-is-none = {
      words = "services.knit.deployments.Web.name";
      config = deployments { Web.image = "a"; };
    };
    package-that-is-none = {
      words = "services.knit.package";
      config = with' { services.knit.package = "knit"; };
    };
  };
}
