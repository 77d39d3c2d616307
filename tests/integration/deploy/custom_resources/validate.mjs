// Objects as JSON on standard input; what their schemas say against them, as JSON on the output.
import { readFileSync } from 'node:fs';

const HOMES = { 'keda.sh': 'keda', 'gateway.networking.k8s.io': 'gateway-api', 'cert-manager.io': 'cert-manager' };

async function model(apiVersion, kind) {
  const home = HOMES[apiVersion.split('/')[0]] ?? 'istio';
  return (await import(`@kubernetes-models/${home}/${apiVersion}`))[kind];
}

const said = [];
for (const { apiVersion, kind, ...object } of JSON.parse(readFileSync(0, 'utf8'))) {
  const Model = await model(apiVersion, kind);
  try {
    new Model(object).validate();
  } catch (error) {
    said.push(`${kind}/${object.metadata.name}: ${error.message}`);
  }
}
console.log(JSON.stringify(said));
